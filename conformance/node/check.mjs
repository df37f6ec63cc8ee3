// Node's two WebSocket clients against a running program.

import { finish, target } from "./harness.mjs";
import { checkBuiltin, checkCompressedBuiltin } from "./builtin.mjs";
import { checkCompressedWs } from "./compressed.mjs";
import { checkWs } from "./ws.mjs";

const { address, policy, name } = target();
await checkWs(address);
await checkCompressedWs(address, policy);
if (typeof WebSocket === "undefined") {
  console.log("note: this Node has no WebSocket of its own; Node 22 and later have");
} else {
  await checkBuiltin(address);
  await checkCompressedBuiltin(address, policy);
}
finish(name);
