// The program's chat in Chromium, used as people would, and its topics.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { check } from "./harness.mjs";

const ROOM = "conformance";

// People who talk, each with a profile of their own, as if they had a browser each.
export async function checkChat(browser, address) {
  const here = `http://${address}`;
  const ana = await enter(browser, here, "Ana");

  await check("chat: an empty room says so", async () => {
    assert.match(await ana.innerText("#empty"), /no history/);
    await sees(ana, ["Ana"]);
  });

  const bruno = await enter(browser, here, "Bruno");
  await check("chat: two pages see each other come", async () => {
    await sees(ana, ["Ana", "Bruno"]);
    await sees(bruno, ["Ana", "Bruno"]);
    await reads(ana, "Bruno joined");
  });

  const text = "Grüße\nfrom the page \u{1f9a6}";
  await check("chat: they talk, in the same order on both pages", async () => {
    await bruno.fill("#text", text);
    await bruno.click("#say");
    await reads(ana, text);
    await say(ana, "hello, Bruno");
    await reads(bruno, "hello, Bruno");
    for (const page of [ana, bruno]) {
      const texts = await page.$$eval("#messages .text", (all) => all.map((one) => one.textContent));
      assert.deepEqual(texts, [text, "hello, Bruno"]);
    }
  });

  await check("chat: one's own messages look different", async () => {
    const mine = (page) => page.textContent("#messages .mine .text");
    assert.deepEqual([await mine(ana), await mine(bruno)], ["hello, Bruno", text]);
  });

  await check("chat: HTML in names and messages is text", async () => {
    const name = '<img src=x onerror="hacked=1">';
    const mallory = await enter(browser, here, name);
    await say(mallory, `<b>bold</b>${name}`);
    for (const page of [ana, bruno]) {
      await sees(page, ["Ana", "Bruno", name]);
      await reads(page, `${name} joined`);
      await reads(page, `<b>bold</b>${name}`);
      assert.equal(await page.locator("#people img, #messages img, #messages b").count(), 0);
      assert.equal(await page.evaluate(() => typeof globalThis.hacked), "undefined");
    }
    await leave(mallory);
  });

  await check("chat: who is in another room sees nothing of it", async () => {
    const zoe = await enter(browser, here, "Zoe", "another room");
    await say(ana, "only for this room");
    await reads(bruno, "only for this room");
    // What comes back to her is behind all that could have come before.
    await say(zoe, "only for the other room");
    await reads(zoe, "only for the other room");
    assert.equal(await zoe.locator("#messages li").count(), 1);
    await sees(zoe, ["Zoe"]);
    await ana.waitForFunction(() =>
      [...document.querySelectorAll("#rooms li")].some((line) => /another room\s*1/.test(line.innerText)),
    );
    await leave(zoe);
  });

  await check("chat: several tabs of one name count once", async () => {
    const tab = await enter(browser, here, "Ana");
    await sees(bruno, ["Ana", "Bruno"]);
    await bruno.waitForFunction(() => document.querySelector("#people").innerText.includes("2 tabs"));
    await leave(tab);
    await bruno.waitForFunction(() => !document.querySelector("#people").innerText.includes("tabs"));
    await sees(bruno, ["Ana", "Bruno"]);
  });

  await check("chat: a new name is seen", async () => {
    await rename(bruno, "Bruno Lu");
    await reads(ana, "Bruno is now Bruno Lu");
    await sees(ana, ["Ana", "Bruno Lu"]);
  });

  await check("chat: who goes is seen to go", async () => {
    await leave(bruno);
    await reads(ana, "Bruno Lu left");
    await sees(ana, ["Ana"]);
  });

  await check("chat: a name that is none is explained, and not tried again", async () => {
    const page = await enter(browser, here, "Dora", "r".repeat(33), "closed");
    assert.match(await page.innerText("#problem"), /1 to 32 characters/);
    assert.ok(await page.isHidden("#retry"));
    await leave(page);
  });

  await checkReturn(browser, address);
  await leave(ana);
}

// The server goes and comes back, as far as the page can tell.
async function checkReturn(browser, address) {
  const way = await openWay(address);
  const page = await enter(browser, `http://${way.address}`, "Erin");
  const other = await enter(browser, `http://${address}`, "Finn");

  await check("chat: a page that lost its server says so, and keeps what is being typed", async () => {
    await page.fill("#text", "not sent ye");
    await way.close();
    // In between it tries, each time later than before.
    await page.waitForFunction(() =>
      /^lost; trying again in \d+ s$/.test(document.querySelector("#state").innerText),
    );
    await page.press("#text", "t");
    await page.press("#text", "Enter");
    assert.equal(await page.inputValue("#text"), "not sent yet");
    await reads(other, "Erin left");
  });

  await check("chat: it comes back by itself", async () => {
    await way.open();
    await page.waitForSelector("#state[data-state=connected]");
    await sees(other, ["Ana", "Erin", "Finn"]);
    await sees(page, ["Ana", "Erin", "Finn"]);
    await page.press("#text", "Enter");
    await reads(other, "not sent yet");
  });

  await leave(page);
  await leave(other);
  await way.close();
}

// Topics: from Node by POST to a page's socket, and between sockets.
export async function checkTopics(browser, address, elsewhere) {
  const topic = `http://${address}/topics/news`;
  const page = await browser.newPage();
  await page.goto(`http://${address}/`);
  await page.evaluate(async (url) => {
    globalThis.received = [];
    globalThis.socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) =>
      received.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
  }, topic.replace("http", "ws"));
  const receives = async (expected) => {
    await page.waitForFunction((count) => received.length >= count, expected.length);
    assert.deepEqual(await page.evaluate(() => received.splice(0)), expected);
  };
  const post = async (body, headers = {}) => {
    const response = await fetch(topic, { method: "POST", body, headers });
    assert.equal(response.status, 200);
    return response.json();
  };

  await check("topics: a POST reaches a page's socket, and is answered with the report", async () => {
    // Until the page's socket is subscribed, nobody is.
    while ((await post("first")).queued === 0);
    await receives(["first"]);
    assert.deepEqual(await post("hello"), { queued: 1, backpressured: 0, dropped: 0 });
    await post('{"a":1}', { "content-type": "application/json" });
    await post(Buffer.from([0, 1, 255]), { "content-type": "application/octet-stream" });
    await receives(["hello", '{"a":1}', [0, 1, 255]]);
  });

  await check("topics: what a socket sends goes to the others, as it came", async () => {
    await page.evaluate((url) => {
      globalThis.other = new WebSocket(url);
      other.onopen = () => other.send("text");
      other.onmessage = ({ data }) => received.push(`to the other: ${data}`);
    }, topic.replace("http", "ws"));
    await receives(["text"]);
    // By now the other is subscribed, too.
    await page.evaluate(() => socket.send("and back"));
    await receives(["to the other: and back"]);
    await page.evaluate(() => other.send(new Uint8Array([7])));
    // No message came to who had sent it.
    await receives([[7]]);
    await page.evaluate(() => other.close());
  });

  await check("topics: a page of another origin cannot publish", async () => {
    const stranger = await browser.newPage();
    await stranger.goto(elsewhere);
    const response = stranger.waitForResponse(topic);
    // Without preflight, as a page may send it to anybody.
    await stranger.evaluate(
      (url) => fetch(url, { method: "POST", mode: "no-cors", body: "from elsewhere" }).catch(() => {}),
      topic,
    );
    assert.equal((await response).status(), 403);
    await post("from here");
    await receives(["from here"]);
    await stranger.close();
  });

  await page.close();
}

// A page of somebody in a room, with a profile of its own.
async function enter(browser, origin, name, room = ROOM, state = "connected") {
  const context = await browser.newContext();
  await context.addInitScript((text) => {
    if (!sessionStorage.getItem("sockeye-profile")) sessionStorage.setItem("sockeye-profile", text);
  }, JSON.stringify({ name, color: 200 }));
  const page = await context.newPage();
  await page.goto(`${origin}/#${encodeURIComponent(room)}`);
  await page.waitForSelector(`#state[data-state=${state}]`);
  return page;
}

function leave(page) {
  return page.context().close();
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

async function rename(page, name) {
  await page.click("#edit");
  await page.fill("#name", name);
  await page.press("#name", "Enter");
}

// Waits until these are the ones who are there.
function sees(page, names) {
  return page.waitForFunction((expected) => {
    const shown = [...document.querySelectorAll("#people .name")].map((one) => one.textContent);
    return shown.length === expected.length && expected.every((name) => shown.includes(name));
  }, names);
}

// Waits until a message or note with exactly this text is there.
function reads(page, text) {
  return page.waitForFunction((expected) => {
    const lines = document.querySelectorAll("#messages .text, #messages .note");
    return [...lines].some((line) => line.textContent === expected);
  }, text);
}

// A way to the program that can be closed and opened again, at an address of its own.
async function openWay(address) {
  const [host, port] = address.split(":");
  const ends = new Set();
  const server = createServer((near) => {
    const far = connect(Number(port), host);
    for (const [one, other] of [[near, far], [far, near]]) {
      ends.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => ends.delete(one));
      one.pipe(other);
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const own = server.address().port;
  return {
    address: `127.0.0.1:${own}`,
    open: () => once(server.listen(own, "127.0.0.1"), "listening"),
    close: () => {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const end of ends) end.destroy();
      return closed;
    },
  };
}
