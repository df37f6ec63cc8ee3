// Checks with the ws library.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import WebSocket from "ws";
import { check } from "./harness.mjs";

const MIB = 1 << 20;
const CONNECTIONS = 100;
const MESSAGES = 50;

export async function checkWs(address) {
  const url = `ws://${address}/echo`;

  await check("ws: text beyond ASCII", () =>
    connected(url, {}, async (socket) => {
      await echoed(socket, "Grüße, 你好, \u{1f9a6}");
      await echoed(socket, "");
    }));

  for (const size of [0, 125, 126, 65535, 65536, MIB]) {
    await check(`ws: binary, ${size} bytes`, () =>
      connected(url, {}, (socket) => echoed(socket, randomBytes(size))));
  }

  await check("ws: binary, 10 MiB", () =>
    connected(url, { maxPayload: 11 * MIB }, (socket) => echoed(socket, randomBytes(10 * MIB))));

  await check("ws: text, 10 MiB", () =>
    connected(url, { maxPayload: 11 * MIB }, (socket) =>
      echoed(socket, "\u00e9".repeat(5 * MIB))));

  await check("ws: text in fragments, a character split over two", () =>
    connected(url, {}, async (socket) => {
      const message = Buffer.from("eins \u{1f9a6} zwei");
      socket.send(message.subarray(0, 7), { fin: false, binary: false });
      socket.send(message.subarray(7, 10), { fin: false });
      socket.send(message.subarray(10), { fin: true });
      await received(socket, message.toString());
    }));

  await check("ws: binary in fragments", () =>
    connected(url, {}, async (socket) => {
      const message = randomBytes(70000);
      socket.send(message.subarray(0, 1), { fin: false });
      socket.send(message.subarray(1, 66000), { fin: false });
      socket.send(message.subarray(66000), { fin: true });
      await received(socket, message);
    }));

  await check("ws: ping is answered by the pong with its payload", () =>
    connected(url, {}, async (socket) => {
      for (const payload of ["", "payload", "x".repeat(125)]) {
        const pong = once(socket, "pong");
        socket.ping(payload);
        assert.equal((await pong)[0].toString(), payload);
      }
    }));

  for (const code of [1000, 1001, 3000, 4999]) {
    await check(`ws: close ${code} comes back`, () =>
      connected(url, {}, async (socket) => {
        socket.close(code, "because");
        assert.equal(await closeCode(socket), code);
      }));
  }

  await check("ws: close without a code comes back without one", () =>
    connected(url, {}, async (socket) => {
      socket.close();
      assert.equal(await closeCode(socket), 1005);
    }));

  await check("ws: the program closes with 1009 when a message is too big", () =>
    connected(url, {}, async (socket) => {
      socket.send(Buffer.alloc(17 * MIB));
      assert.equal(await closeCode(socket), 1009);
    }));

  await check(`ws: ${CONNECTIONS} connections at once, ${MESSAGES} messages each, in order`, () =>
    Promise.all(Array.from({ length: CONNECTIONS }, (_, number) => talk(url, number))));
}

async function talk(url, number) {
  const expected = Array.from({ length: MESSAGES }, (_, n) => `connection ${number}, message ${n}`);
  await connected(url, {}, async (socket) => {
    const messages = [];
    const all = new Promise((resolve, reject) => {
      socket.on("close", () => reject(new Error("closed early")));
      socket.on("message", (data) => {
        if (messages.push(data.toString()) === MESSAGES) resolve();
      });
    });
    for (const message of expected) socket.send(message);
    await all;
    assert.deepEqual(messages, expected);
  });
}

// Opens a socket, hands it to `body` and closes it whatever came of that.
export async function connected(url, options, body) {
  const socket = new WebSocket(url, options);
  try {
    await once(socket, "open");
    // What goes wrong from here on shows in the close code or as a missing message.
    socket.on("error", () => {});
    await body(socket);
  } finally {
    socket.on("error", () => {});
    socket.terminate();
  }
}

export async function echoed(socket, message) {
  socket.send(message);
  await received(socket, message);
}

async function received(socket, expected) {
  // Whichever comes first, the other is not listened for any more.
  const listening = new AbortController();
  const { signal } = listening;
  const [data, isBinary] = await Promise.race([
    once(socket, "message", { signal }),
    once(socket, "close", { signal }).then(([code]) => {
      throw new Error(`closed with ${code}`);
    }),
  ]).finally(() => listening.abort());
  assert.equal(isBinary, typeof expected !== "string", "binary or text");
  assert.ok(data.equals(Buffer.from(expected)), "the echo differs from the message");
}

async function closeCode(socket) {
  const [code] = await once(socket, "close");
  return code;
}
