// A tap between a client and the program: relays the bytes and keeps them, to see the frames.

import { once } from "node:events";
import { connect, createServer } from "node:net";

export const TEXT = 1;
export const BINARY = 2;
// Of a message's first frame: it is compressed (RFC 7692 section 6).
export const RSV1 = 4;

// Calls `body` with the address of a tap before `address`, and a function that gives what has gone
// through it: for each WebSocket the `request` and the messages `sent` and `received`, as
// { opcode, fin, rsv, length }.
export async function tapped(address, body) {
  const connections = [];
  const listener = createServer((client) => {
    const [host, port] = address.split(":");
    const program = connect(Number(port), host);
    const connection = { sent: [], received: [] };
    connections.push(connection);
    relay(client, program, connection.sent);
    relay(program, client, connection.received);
  });
  await once(listener.listen(0, "127.0.0.1"), "listening");
  try {
    await body(`127.0.0.1:${listener.address().port}`, () => seen(connections));
  } finally {
    listener.close();
  }
}

function relay(from, to, kept) {
  from.on("data", (data) => kept.push(data));
  // How a connection ends is for its two ends to judge.
  from.on("error", () => to.destroy());
  from.pipe(to);
}

function seen(connections) {
  return connections
    .map(({ sent, received }) => [Buffer.concat(sent), Buffer.concat(received)])
    .filter(([sent]) => /^upgrade: websocket\r$/im.test(sent.toString("latin1")))
    .map(([sent, received]) => ({
      request: sent.subarray(0, sent.indexOf("\r\n\r\n")).toString("latin1"),
      sent: messages(sent),
      received: messages(received),
    }));
}

// The first frames of the messages behind the head of the handshake, which nobody here cuts up.
function messages(data) {
  const found = [];
  let at = data.indexOf("\r\n\r\n") + 4;
  while (at + 2 <= data.length) {
    const [first, second] = [data[at], data[at + 1]];
    let length = second & 0x7f;
    at += 2;
    if (length === 126) length = data.readUInt16BE(at);
    else if (length === 127) length = Number(data.readBigUInt64BE(at));
    at += { 126: 2, 127: 8 }[second & 0x7f] ?? 0;
    at += length + (second & 0x80 ? 4 : 0);
    const opcode = first & 0xf;
    if (opcode === TEXT || opcode === BINARY) {
      found.push({ opcode, fin: first >> 7 === 1, rsv: (first >> 4) & 7, length });
    }
  }
  return found;
}

// Text of which a tenth is left when it is compressed.
export function prose(length, seed = 0) {
  const sentence = (number) => `The ${number * number * 7919 + seed}th sentence, and so on; `;
  const all = Array.from({ length: Math.ceil(length / 20) }, (_, n) => sentence((n * n) % 13));
  return all.join("").slice(0, length);
}

// Text without repetitions, of which most is left when it is compressed; the same on every run.
export function digits(length) {
  let state = 1;
  const digit = () => {
    state = (state * 48271) % 2147483647;
    return ((state >> 8) & 15).toString(16);
  };
  return Array.from({ length }, digit).join("");
}
