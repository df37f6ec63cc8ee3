// The ws library compressed, with a tap that sees what is on the wire.

import assert from "node:assert/strict";
import { check } from "./harness.mjs";
import { BINARY, RSV1, TEXT, digits, prose, tapped } from "./tap.mjs";
import { connected, echoed } from "./ws.mjs";

const LONG = prose(20000);

export async function checkCompressedWs(address, policy) {
  await checkUncompressed(address, policy);
  if (policy === "off") return;

  await check("wire: 20,000 characters are compressed both ways, with default settings", () =>
    tapped(address, async (tap, seen) => {
      await connected(`ws://${tap}/echo`, {}, async (socket) => {
        await echoed(socket, LONG);
        await echoed(socket, Buffer.from(LONG));
      });
      const [{ sent, received }] = seen();
      for (const frames of [sent, received]) {
        assert.deepEqual(
          frames.map(({ opcode, fin, rsv }) => [opcode, fin, rsv]),
          [[TEXT, true, RSV1], [BINARY, true, RSV1]],
        );
        for (const { length } of frames) {
          assert.ok(length < LONG.length / 4, `${length} bytes are not few`);
        }
      }
    }));

  await check("wire: short messages come as they are, also to one that was compressed", () =>
    tapped(address, async (tap, seen) => {
      const options = { perMessageDeflate: { threshold: 0 } };
      await connected(`ws://${tap}/echo`, options, async (socket) => {
        for (const length of [1, 255, 256]) await echoed(socket, "a".repeat(length));
      });
      const [{ sent, received }] = seen();
      assert.deepEqual(sent.map(({ rsv }) => rsv), [RSV1, RSV1, RSV1]);
      assert.deepEqual(received.map(({ rsv }) => rsv), [0, 0, RSV1]);
      assert.deepEqual(received.slice(0, 2).map(({ length }) => length), [1, 255]);
    }));

  const again = policy === "shared" ? "as long as the first" : "much shorter";
  await check(`wire: the second time a message is ${again}`, () =>
    tapped(address, async (tap, seen) => {
      await connected(`ws://${tap}/echo`, {}, async (socket) => {
        for (let time = 0; time < 2; time += 1) await echoed(socket, digits(2000));
      });
      const [{ sent, received }] = seen();
      for (const [first, second] of [sent, received]) {
        assert.deepEqual([first.rsv, second.rsv], [RSV1, RSV1]);
        const [one, two] = [first.length, second.length];
        assert.ok(policy === "shared" ? two === one : two < one / 10, `${two} bytes after ${one}`);
      }
    }));

  for (const parameters of [
    {},
    { serverNoContextTakeover: true },
    { clientNoContextTakeover: true },
    { serverNoContextTakeover: true, clientNoContextTakeover: true },
    { serverMaxWindowBits: 9, clientMaxWindowBits: 9 },
    { serverMaxWindowBits: 8 },
    { serverMaxWindowBits: 15, clientMaxWindowBits: 15 },
  ]) {
    const options = { perMessageDeflate: { threshold: 100, ...parameters } };
    await check(`ws, compressed: 200 messages with ${JSON.stringify(parameters)}`, () =>
      connected(`ws://${address}/echo`, options, async (socket) => {
        assert.match(socket.extensions, /^permessage-deflate/);
        for (let number = 0; number < 200; number += 1) {
          const length = [0, 1, 99, 255, 256, 300, 2000, 20000, 100000][(number * 7) % 9];
          const text = number % 5 === 0 ? digits(length) : prose(length, number % 4);
          await echoed(socket, number % 2 ? text : Buffer.from(text));
        }
      }));
  }
}

async function checkUncompressed(address, policy) {
  // Offered to a program that does not compress, or not offered to one that does.
  const perMessageDeflate = policy === "off";
  await check("wire: nothing is compressed that was not agreed on", () =>
    tapped(address, async (tap, seen) => {
      await connected(`ws://${tap}/echo`, { perMessageDeflate }, async (socket) => {
        assert.equal(socket.extensions, "");
        await echoed(socket, LONG);
      });
      const [{ sent, received }] = seen();
      for (const frames of [sent, received]) {
        assert.deepEqual(frames, [{ opcode: TEXT, fin: true, rsv: 0, length: LONG.length }]);
      }
    }));
}
