// A server made of the ws library, for sockeye's client.
//
// It does to each connection what the address says, as README.md lists, and then echoes.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { STATUS_CODES, createServer } from "node:http";
import { WebSocketServer } from "ws";

// How long to wait for the end of a connection that is asked about.
const END_SECONDS = 5;

const records = new Map();
// The library as it is told to compress, as JSON; it does for all that offer it.
const libraries = new Map();

const port = await listen();
console.log(`listening on 127.0.0.1:${port}`);

// By default messages of any length are compressed, with both windows kept.
function library(deflate) {
  let made = libraries.get(deflate);
  if (made === undefined) {
    const inCamelCase = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
    const parameters = Object.entries(JSON.parse(deflate ?? "{}"));
    const settings = Object.fromEntries(parameters.map(([name, value]) => [inCamelCase(name), value]));
    made = new WebSocketServer({
      noServer: true,
      handleProtocols: (_, request) => told(request).query.get("subprotocol"),
      perMessageDeflate: { threshold: 0, ...settings },
    });
    made.on("headers", (headers, request) => headers.push(...told(request).headers));
    libraries.set(deflate, made);
  }
  return made;
}

// The address of one connection, taken apart.
function told(request) {
  const { pathname, searchParams: query } = new URL(request.url, "ws://localhost");
  return { path: pathname, query, id: query.get("id"), headers: query.getAll("header") };
}

// A free port of 127.0.0.1 and, if this machine has IPv6, the same port of ::1.
async function listen() {
  for (;;) {
    const first = await listening(0, "127.0.0.1");
    const { port: free } = first.address();
    try {
      await listening(free, "::1");
      return free;
    } catch (error) {
      if (error.code !== "EADDRINUSE") return free;
      first.close();
    }
  }
}

async function listening(number, host) {
  const server = createServer();
  server.on("upgrade", answer);
  await once(server.listen(number, host), "listening");
  return server;
}

// Keeps the request, and refuses it if that is asked for.
function answer(request, stream, head) {
  const { path, query, id } = told(request);
  if (path === "/") {
    records.set(id, newRecord(request));
    if (query.has("refuse")) return refuse(request, stream);
  }
  library(query.get("deflate")).handleUpgrade(request, stream, head, (socket) => handle(socket, request, stream));
}

function newRecord(request) {
  const headers = [];
  for (let at = 0; at < request.rawHeaders.length; at += 2) {
    headers.push(request.rawHeaders.slice(at, at + 2));
  }
  const record = {
    seen: { target: request.url, headers, received: [], pongs: [], close: null },
    ended: false,
  };
  record.end = new Promise((resolve) => {
    record.setEnded = () => {
      record.ended = true;
      resolve();
    };
  });
  record.released = new Promise((resolve) => {
    record.release = resolve;
  });
  return record;
}

function refuse(request, stream) {
  const { query, id, headers } = told(request);
  const status = query.get("refuse");
  const body = query.get("body") ?? "";
  records.get(id).setEnded();
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    "Connection: close",
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...headers,
  ];
  stream.end(`${lines.join("\r\n")}\r\n\r\n${body}`);
}

async function handle(socket, request, stream) {
  const { path, query, id } = told(request);
  const record = records.get(id);
  if (path === "/seen") {
    await Promise.race([record.end, seconds(END_SECONDS)]);
    socket.send(JSON.stringify({ ...record.seen, ended: record.ended }));
    socket.close();
  } else if (path === "/release") {
    record.release();
    socket.close();
  } else {
    await play(socket, stream, JSON.parse(query.get("do") ?? "[]"), record);
  }
}

async function play(socket, stream, steps, record) {
  let error = null;
  // The library forgets a failure of the stream; its user would see a close code.
  for (const source of [stream, socket]) source.on("error", ({ message }) => (error = message));
  socket.on("close", (code, reason) => {
    record.seen.close = { code, reason: reason.toString(), error };
    record.setEnded();
  });
  // What arrives during the steps is echoed after them.
  let echo;
  const stepsTaken = new Promise((resolve) => (echo = resolve));
  socket.on("message", async (data, isBinary) => {
    record.seen.received.push(summary(data, isBinary));
    await stepsTaken;
    socket.send(data, { binary: isBinary });
  });
  for (const step of steps) await take(socket, stream, step, record);
  echo();
}

async function take(socket, stream, step, record) {
  if ("text" in step) {
    // Compressing takes its time, and the next step may be the end.
    await new Promise((resolve) => socket.send(step.text, resolve));
  } else if ("numbers" in step) {
    for (let number = 0; number < step.numbers; number += 1) socket.send(String(number));
  } else if ("zeros" in step) {
    socket.send(Buffer.alloc(step.zeros));
  } else if ("fragments" in step) {
    await fragments(socket, step, record);
  } else if ("ping" in step) {
    await pinged(socket, step.ping, record);
  } else if ("listen" in step) {
    await record.end;
  } else if ("hold" in step) {
    socket.pause();
    await record.released;
    socket.resume();
  } else if ("close" in step) {
    socket.close(...step.close);
  } else if ("vanish" in step) {
    if (step.vanish === "reset") stream.resetAndDestroy();
    else stream.destroy();
  } else {
    throw new Error(`unknown step ${JSON.stringify(step)}`);
  }
}

// A message in pieces; each waits until a ping behind the one before it was answered.
async function fragments(socket, { fragments: text, size, kind, ping }, record) {
  const data = Buffer.from(text);
  const binary = kind === "binary";
  for (let start = 0; start < data.length; start += size) {
    socket.send(data.subarray(start, start + size), { fin: false, binary });
    if (ping !== undefined) await pinged(socket, ping, record);
  }
  socket.send(Buffer.alloc(0), { fin: true, binary });
}

// A ping whose pong has come with the same payload.
async function pinged(socket, payload, record) {
  socket.ping(payload);
  for (;;) {
    const [data] = await once(socket, "pong");
    if (data.toString() === payload) break;
  }
  record.seen.pongs.push(payload);
}

function summary(data, isBinary) {
  return {
    kind: isBinary ? "binary" : "text",
    length: data.length,
    sha1: createHash("sha1").update(data).digest("hex"),
  };
}

function seconds(count) {
  return new Promise((resolve) => setTimeout(resolve, count * 1000));
}
