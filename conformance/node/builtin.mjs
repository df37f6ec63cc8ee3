// Checks with the WebSocket that Node brings itself.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { check } from "./harness.mjs";
import { BINARY, RSV1, TEXT, prose, tapped } from "./tap.mjs";

const MIB = 1 << 20;

export async function checkBuiltin(address) {
  const url = `ws://${address}/echo`;

  await check("built-in: text beyond ASCII", () =>
    connected(url, async (socket) => {
      await echoed(socket, "Grüße, 你好, \u{1f9a6}");
      await echoed(socket, "");
    }));

  for (const size of [0, 126, 65536, 10 * MIB]) {
    await check(`built-in: binary, ${size} bytes`, () =>
      connected(url, (socket) => echoed(socket, randomBytes(size))));
  }

  await check("built-in: 100 messages in order", () =>
    connected(url, async (socket) => {
      const expected = Array.from({ length: 100 }, (_, n) => `message ${n}`);
      const messages = [];
      const all = new Promise((resolve) => {
        socket.addEventListener("message", ({ data }) => {
          if (messages.push(data) === expected.length) resolve();
        });
      });
      for (const message of expected) socket.send(message);
      await all;
      assert.deepEqual(messages, expected);
    }));

  for (const code of [1000, 4999]) {
    await check(`built-in: close ${code} comes back, clean`, () =>
      connected(url, async (socket) => {
        const closed = event(socket, "close");
        socket.close(code, "because");
        const { code: actual, wasClean } = await closed;
        assert.deepEqual({ actual, wasClean }, { actual: code, wasClean: true });
      }));
  }
}

export async function checkCompressedBuiltin(address, policy) {
  await check("built-in: what comes is compressed if it was offered and agreed on", () =>
    tapped(address, async (tap, seen) => {
      const message = prose(20000);
      await connected(`ws://${tap}/echo`, async (socket) => {
        await echoed(socket, message);
        await echoed(socket, Buffer.from(message));
        await echoed(socket, "short");
      });
      const [{ request, received }] = seen();
      // Not every Node offers it.
      const offered = /^sec-websocket-extensions: permessage-deflate/im.test(request);
      const rsv = offered && policy !== "off" ? RSV1 : 0;
      assert.deepEqual(
        received.map((frame) => [frame.opcode, frame.rsv]),
        [[TEXT, rsv], [BINARY, rsv], [TEXT, 0]],
      );
      for (const { length } of received) {
        assert.ok(rsv === 0 || length < message.length / 4, `${length} bytes are not few`);
      }
    }));
}

// Opens a socket, hands it to `body` and closes it whatever came of that.
async function connected(url, body) {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  try {
    await event(socket, "open");
    await body(socket);
  } finally {
    socket.close();
  }
}

async function echoed(socket, message) {
  const answer = event(socket, "message");
  socket.send(message);
  const { data } = await answer;
  assert.equal(typeof data, typeof message === "string" ? "string" : "object", "binary or text");
  assert.ok(Buffer.from(data).equals(Buffer.from(message)), "the echo differs from the message");
}

// The next event of this type; a rejection if the socket fails or closes first.
function event(socket, type) {
  return new Promise((resolve, reject) => {
    socket.addEventListener(type, resolve, { once: true });
    for (const end of ["error", "close"]) {
      if (end === type) continue;
      socket.addEventListener(end, () => reject(new Error(`${end} before ${type}`)), { once: true });
    }
  });
}
