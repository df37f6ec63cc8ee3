// Node's two WebSocket clients against a running program: check.mjs HOST:PORT

import { finish, target } from "./harness.mjs";
import { checkBuiltin } from "./builtin.mjs";
import { checkWs } from "./ws.mjs";

const address = target();
await checkWs(address);
if (typeof WebSocket === "undefined") {
  console.log("note: this Node has no WebSocket of its own; Node 22 and later have");
} else {
  await checkBuiltin(address);
}
finish("node");
