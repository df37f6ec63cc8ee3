// Bun, as its documentation writes a server with compression; prints its port.
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    compression: { type: "string" },
    size: { type: "string" },
    "in-flight": { type: "string" },
    workers: { type: "string" },
  },
});

const compression = {
  off: false,
  shared: { compress: "shared", decompress: "shared" },
  // Windows of 4 KiB both ways, as sockeye has them. The largest, "dedicated", cost twice as much on
  // 100 connections.
  dedicated: { compress: "32KB", decompress: "4KB" },
}[values.compression];
const compress = compression !== false;

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (!server.upgrade(request, { data: { pathname } })) {
      return new Response(null, { status: 400 });
    }
  },
  websocket: {
    perMessageDeflate: compression,
    open(ws) {
      if (ws.data.pathname === "/receive") {
        receivers.push(ws);
        ws.subscribe("all");
      } else if (ws.data.pathname === "/hear" || ws.data.pathname === "/talk") {
        ws.subscribe("topic");
      }
    },
    message(ws, message) {
      if (ws.data.pathname === "/once") {
        server.publish("all", message, compress);
      } else if (ws.data.pathname === "/each") {
        for (const receiver of receivers) receiver.send(message, compress);
      } else if (ws.data.pathname === "/publish") {
        server.publish("topic", message);
      } else if (ws.data.pathname === "/talk") {
        ws.publish("topic", message);
      } else {
        ws.send(message, compress);
      }
    },
  },
});
const receivers = [];

console.log(server.port);
