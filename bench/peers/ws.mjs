// Node's `ws`, as its documentation writes a server with compression; prints its port.
import { parseArgs } from "node:util";
import WebSocket, { WebSocketServer } from "ws";

const { values } = parseArgs({
  options: {
    compression: { type: "string" },
    size: { type: "string" },
    "in-flight": { type: "string" },
    workers: { type: "string" },
  },
});

// What was the fastest of all that was tried: see README.md.
const size = Number(values.size);
const chunkSize = Math.max(size, 16 * 1024);
const fastest = {
  threshold: 0,
  zlibDeflateOptions: { level: 1, memLevel: size > 16 * 1024 ? 8 : 5, chunkSize },
  zlibInflateOptions: { chunkSize },
};
const perMessageDeflate = {
  off: false,
  shared: { ...fastest, serverNoContextTakeover: true, clientNoContextTakeover: true },
  dedicated: fastest,
}[values.compression];

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate });
const receivers = [];

server.on("connection", (ws, request) => {
  ws.on("error", console.error);
  if (request.url === "/receive") {
    receivers.push(ws);
  } else if (request.url === "/each") {
    ws.on("message", (data, isBinary) => {
      for (const receiver of receivers) receiver.send(data, { binary: isBinary });
    });
  } else if (request.url === "/publish" || request.url === "/talk") {
    ws.on("message", (data, isBinary) => {
      server.clients.forEach((client) => {
        if (client !== ws && client.readyState === WebSocket.OPEN) {
          client.send(data, { binary: isBinary });
        }
      });
    });
  } else if (request.url !== "/hear") {
    ws.on("message", (data, isBinary) => ws.send(data, { binary: isBinary }));
  }
});
server.on("listening", () => console.log(server.address().port));
