// Headless Chromium against a running program.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { chromium } from "playwright-core";
import { checkChat, checkTopics } from "./chat.mjs";
import { check, finish, target } from "./harness.mjs";
import { BINARY, RSV1, TEXT, digits, prose, tapped } from "./tap.mjs";

const EXECUTABLE = process.env.CHROMIUM || "/usr/bin/chromium";
const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const { address, policy, name } = target();
const url = `ws://${address}/echo`;
const foreign = createServer(({ url: path }, response) => {
  // A sandboxed page has an origin of its own that it sends as "null".
  if (path === "/sandboxed") {
    response.setHeader("Content-Security-Policy", "sandbox allow-scripts");
  }
  response.setHeader("Content-Type", "text/html").end("<!doctype html><title>elsewhere</title>");
});
await once(foreign.listen(0, "127.0.0.1"), "listening");
// Comes with an empty profile in a temporary folder, removed when the browser is closed.
const browser = await chromium.launch({ executablePath: EXECUTABLE, args: ARGUMENTS });
try {
  await checkPage();
  await checkChat(browser, address);
  await checkTopics(browser, address, `http://127.0.0.1:${foreign.address().port}/`);
  await checkSockets();
  await checkOrigins();
  await checkWire();
} finally {
  await browser.close();
  foreign.close();
}
finish(name);

// The program's own page, and its corner to try /echo, used as a person would.
async function checkPage() {
  const page = await opened(`http://${address}/`);

  await check("page: nothing but what comes with it may run", async () => {
    const { headers } = await fetch(`http://${address}/`);
    const policy = headers.get("content-security-policy");
    assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self';/);
    assert.doesNotMatch(policy, /unsafe/);
    assert.equal(headers.get("x-content-type-options"), "nosniff");
  });

  await check("page: the chat connects", () => page.waitForSelector("#state[data-state=connected]"));

  await page.click("#echo summary");
  await check("page: the status becomes open", () =>
    page.waitForFunction(() => document.querySelector("#status")?.textContent.trim() === "open"));

  await check("page: a sent message appears in the log", async () => {
    const message = "Grüße from the page \u{1f9a6}";
    await page.fill("#message", message);
    await page.click("#send");
    await page.waitForFunction(
      (text) => document.querySelector("#log").textContent.includes(text),
      message,
    );
    await page.waitForSelector("#log .received");
  });
  await page.close();
}

// The browser's WebSocket, scripted from the program's own origin.
async function checkSockets() {
  const page = await opened(`http://${address}/`);
  await page.evaluate(defineHelpers, url);

  await check("socket: text, empty text, non-ASCII and emoji", async () => {
    for (const message of ["hello", "", "Grüße, 你好", "\u{1f9a6}\u{1f44d}\u{1f3fd}"]) {
      assert.equal(await page.evaluate((text) => echo(text), message), message);
    }
  });

  await check("socket: binary from an ArrayBuffer", async () => {
    const bytes = [0, 1, 127, 128, 255];
    const echoed = await page.evaluate(
      async (array) => [...new Uint8Array(await echo(new Uint8Array(array).buffer))],
      bytes,
    );
    assert.deepEqual(echoed, bytes);
  });

  await check("socket: binary from a Blob", async () => {
    const echoed = await page.evaluate(async () => {
      const answer = await echo(new Blob(["bl", "ob"]));
      return answer instanceof ArrayBuffer ? new TextDecoder().decode(answer) : "not binary";
    });
    assert.equal(echoed, "blob");
  });

  await check("socket: binary of 10 MiB", async () => {
    const same = await page.evaluate(async () => {
      const sent = new Uint32Array((10 << 20) / 4).map((_, index) => index * 2654435761);
      const answer = new Uint32Array(await echo(sent.buffer));
      return answer.length === sent.length && answer.every((word, index) => word === sent[index]);
    });
    assert.ok(same, "the echo differs from the message");
  });

  await check("socket: 1000 messages come back in order", async () => {
    const expected = Array.from({ length: 1000 }, (_, number) => `message ${number}`);
    assert.deepEqual(await page.evaluate((messages) => echoAll(messages), expected), expected);
  });

  await check("socket: close(1000) ends cleanly", async () => {
    const { code, wasClean } = await page.evaluate(() => closeWith(1000));
    assert.deepEqual({ code, wasClean }, { code: 1000, wasClean: true });
  });

  await check('socket: close(4000, "bye") ends cleanly', async () => {
    const { code, reason, wasClean } = await page.evaluate(() => closeWith(4000, "bye"));
    assert.deepEqual({ code, wasClean }, { code: 4000, wasClean: true });
    // The answer to a close may leave out the reason, but must not make one up.
    assert.ok(["", "bye"].includes(reason), `reason ${reason}`);
  });
}

// Pages from elsewhere, which must not get at the socket with the user's rights.
async function checkOrigins() {
  const elsewhere = `http://127.0.0.1:${foreign.address().port}`;
  const pages = [
    ["a page from another port", `${elsewhere}/`],
    ["a sandboxed page, whose origin is null,", `${elsewhere}/sandboxed`],
  ];
  for (const [name, location] of pages) {
    await check(`origin: ${name} cannot open the socket`, async () => {
      const page = await opened(location);
      const outcome = await page.evaluate(
        (socketUrl) =>
          new Promise((resolve) => {
            const socket = new WebSocket(socketUrl);
            socket.onopen = () => resolve("open");
            socket.onclose = ({ code }) => resolve(code);
          }),
        url,
      );
      assert.equal(outcome, 1006);
    });
  }
}

// What is on the wire: the page comes through a tap, and so do its sockets.
async function checkWire() {
  const compressed = policy !== "off";
  const rsv = compressed ? RSV1 : 0;
  const long = prose(20000);

  const how = compressed ? "compressed" : "as they are";
  await check(`wire: 20,000 characters travel ${how}, both ways`, () =>
    throughTap(async (page, seen) => {
      assert.equal(await page.evaluate((text) => echo(text), long), long);
      const size = await page.evaluate(async (text) => {
        const answer = await echo(new TextEncoder().encode(text).buffer);
        return answer.byteLength;
      }, long);
      assert.equal(size, long.length);
      const sockets = seen();
      assert.equal(sockets.length, 2);
      for (const [number, { request, sent, received }] of sockets.entries()) {
        assert.match(request, /^sec-websocket-extensions: permessage-deflate/im);
        for (const frames of [sent, received]) {
          const [{ opcode, length }] = frames;
          assert.deepEqual([opcode, frames[0].rsv], [[TEXT, BINARY][number], rsv]);
          if (compressed) assert.ok(length < long.length / 4, `${length} bytes are not few`);
          else assert.equal(length, long.length);
        }
      }
    }));

  await check("wire: short messages come as they are", () =>
    throughTap(async (page, seen) => {
      const messages = ["", "a", "a".repeat(255)];
      assert.deepEqual(await page.evaluate((texts) => echoAll(texts), messages), messages);
      const [{ received }] = seen();
      const plain = [[0, 0], [0, 1], [0, 255]];
      assert.deepEqual(received.map(({ rsv: bits, length }) => [bits, length]), plain);
    }));

  const again = { dedicated: "much shorter", shared: "as long as the first", off: "as it is" };
  await check(`wire: the second time a message is ${again[policy]}`, () =>
    throughTap(async (page, seen) => {
      const messages = [digits(2000), digits(2000)];
      assert.deepEqual(await page.evaluate((texts) => echoAll(texts), messages), messages);
      const [{ sent, received }] = seen();
      for (const [first, second] of [sent, received]) {
        assert.deepEqual([first.rsv, second.rsv], [rsv, rsv]);
        const [one, two] = [first.length, second.length];
        const right = policy === "dedicated" ? two < one / 10 : two === one;
        assert.ok(right, `${two} bytes after ${one}`);
      }
    }));

  await check("wire: 1000 messages of many lengths come back in order", () =>
    throughTap(async (page, seen) => {
      const messages = Array.from({ length: 1000 }, (_, n) => prose((n * 37) % 3000, n % 7));
      assert.deepEqual(await page.evaluate((texts) => echoAll(texts), messages), messages);
      const [{ sent, received }] = seen();
      for (const frames of [sent, received]) {
        assert.equal(frames.length, messages.length);
        assert.equal(frames.some((frame) => frame.rsv === RSV1), compressed);
      }
    }));
}

// A page that came through a tap, with the functions of the helpers.
function throughTap(body) {
  return tapped(address, async (tap, seen) => {
    const page = await opened(`http://${tap}/`);
    // The page has a socket of its own, which is not the matter here.
    await page.waitForSelector("#state[data-state=connected]");
    const before = seen().length;
    await page.evaluate(defineHelpers, `ws://${tap}/echo`);
    await body(page, () => seen().slice(before));
    await page.close();
  });
}

async function opened(location) {
  const page = await browser.newPage();
  await page.goto(location);
  return page;
}

// Runs in the page: gives its scripts the functions echo, echoAll and closeWith.
function defineHelpers(socketUrl) {
  async function connect() {
    const socket = new WebSocket(socketUrl);
    socket.binaryType = "arraybuffer";
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onclose = () => reject(new Error("closed before it was open"));
    });
    return socket;
  }

  // Sends all messages at once; gives as many answers.
  globalThis.echoAll = async (messages) => {
    const socket = await connect();
    const answers = [];
    await new Promise((resolve, reject) => {
      socket.onclose = ({ code }) => reject(new Error(`closed with ${code}`));
      socket.onmessage = ({ data }) => {
        if (answers.push(data) === messages.length) resolve();
      };
      for (const message of messages) socket.send(message);
    });
    socket.close();
    return answers;
  };

  globalThis.echo = async (message) => (await echoAll([message]))[0];

  globalThis.closeWith = async (...closing) => {
    const socket = await connect();
    return new Promise((resolve) => {
      socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
      socket.close(...closing);
    });
  };
}
