// The page of `sockeye serve`: a chat over /chat/{room}, and a corner to try /echo. What comes from
// others is only ever set as text.

const HUES = [12, 45, 85, 145, 190, 240, 285, 335];
const LONGEST_TEXT = 2000;
const MOST_MESSAGES = 500;
const FIRST_ROOM = "lobby";

// Codes after which coming back would lead to the same end. Others, such as 1001 of a server that stops
// or 1006 of a network that breaks, are tried again.
const FINAL_CODES = new Set([1000, 1002, 1003, 1007, 1008, 1009, 1010]);

const $ = (id) => document.getElementById(id);

// A new element; `text` is never HTML.
function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function paint(element, hue) {
  element.style.setProperty("--hue", hue);
}

function avatar(name, hue, element = make("span", "avatar")) {
  // The first character as a person sees it, which may be several of JavaScript's.
  element.textContent = [...new Intl.Segmenter().segment(name)][0]?.segment.toUpperCase() ?? "";
  element.setAttribute("aria-hidden", "true");
  paint(element, hue);
  return element;
}

function bdi(className, text) {
  // Isolated, so that a name in another direction does not turn what is beside it around.
  return make("bdi", className, text);
}

// ---- Who I am: for this tab, and as the beginning for the next one

const me = loadProfile();

function loadProfile() {
  for (const storage of [sessionStorage, localStorage]) {
    try {
      const { name, color } = JSON.parse(storage.getItem("sockeye-profile"));
      if (typeof name === "string" && name.trim() && Number.isInteger(color)) return { name, color };
    } catch {
      // Nothing there, or nothing of ours.
    }
  }
  const any = (list) => list[Math.floor(Math.random() * list.length)];
  const adjectives = ["Brisk", "Calm", "Deft", "Keen", "Merry", "Quick", "Quiet", "Sunny", "Wise"];
  const animals = ["Bear", "Eagle", "Heron", "Loon", "Mink", "Osprey", "Otter", "Salmon", "Seal"];
  return { name: `${any(adjectives)} ${any(animals)}`, color: any(HUES) };
}

function setProfile(name, color) {
  Object.assign(me, { name, color });
  const text = JSON.stringify(me);
  sessionStorage.setItem("sockeye-profile", text);
  localStorage.setItem("sockeye-profile", text);
  showProfile();
}

function showProfile() {
  $("me-name").textContent = me.name;
  avatar(me.name, me.color, $("me-avatar"));
}

// ---- The connection

let room = "";
let socket;
let myId;
let attempts = 0;
let helloAt = 0;
let retryTimer;
let lastReference = 0;
// What was sent and has not come back yet, by its reference.
const unconfirmed = new Map();

function connect() {
  clearInterval(retryTimer);
  showState("connecting", attempts ? "connecting again" : "connecting");
  const query = new URLSearchParams({ name: me.name, color: me.color });
  const address = `${location.origin.replace(/^http/, "ws")}/chat/${encodeURIComponent(room)}?${query}`;
  const opening = new WebSocket(address);
  socket = opening;
  let problem = "";
  helloAt = 0;
  const slow = setTimeout(() => opening.close(), 10_000);
  opening.onopen = () => clearTimeout(slow);
  opening.onmessage = ({ data }) => {
    // Of a room that was left a moment ago.
    if (opening !== socket) return;
    const message = JSON.parse(data);
    if (message.type === "error") problem = message.text;
    on[message.type]?.(message);
  };
  opening.onclose = ({ code, reason }) => {
    clearTimeout(slow);
    if (opening === socket) onLost(code, problem || reason);
  };
}

function isConnected() {
  return helloAt > 0 && socket?.readyState === WebSocket.OPEN;
}

function onLost(code, reason) {
  // What was not taken goes back to where it was typed.
  if (unconfirmed.size) {
    $("text").value = [...unconfirmed.values(), $("text").value].filter(Boolean).join("\n");
    unconfirmed.clear();
    onTyped();
  }
  if (FINAL_CODES.has(code)) {
    showState("closed", "closed");
    showProblem(`The server has closed the connection: ${reason || `code ${code}`}`);
    return;
  }
  // A connection that held for a while begins anew; one that breaks at once waits longer and longer.
  if (helloAt && Date.now() - helloAt > 5_000) attempts = 0;
  // Full jitter: all who were cut off together do not come back together.
  const most = Math.min(30_000, 1_000 * 2 ** attempts);
  attempts += 1;
  const due = Date.now() + Math.random() * most;
  const tick = () => {
    const left = Math.ceil((due - Date.now()) / 1_000);
    if (left <= 0) connect();
    else showState("lost", "lost", `; trying again in ${left} s`);
  };
  retryTimer = setInterval(tick, 250);
  tick();
}

function retryNow() {
  if ($("state").dataset.state === "lost") connect();
}

// `more` changes every second, so it is not read aloud.
function showState(state, text, more = "") {
  const tag = $("state");
  if (tag.dataset.state !== state || tag.firstChild?.data !== text) {
    tag.dataset.state = state;
    tag.textContent = text;
  }
  tag.querySelector("span")?.remove();
  if (more) {
    tag.append(make("span", "", more));
    tag.lastChild.setAttribute("aria-hidden", "true");
  }
  $("retry").hidden = state !== "lost";
  $("say").disabled = state !== "connected";
}

function send(message) {
  socket.send(JSON.stringify(message));
}

// ---- What comes from the server

const on = {
  hello({ id, name, color, version, present }) {
    const isBack = people.version !== undefined;
    myId = id;
    helloAt = Date.now();
    setProfile(name, color);
    people.version = version;
    people.map = new Map(present.map((person) => [person.name, person]));
    showPeople();
    showState("connected", "connected");
    showProblem("");
    if (isBack) addNote("You are connected again. What was said meanwhile is not here.");
  },

  you({ name, color }) {
    setProfile(name, color);
    showProblem("");
  },

  presence({ version, joined, updated, left }) {
    // Already in the list that came with `hello`.
    if (people.version === undefined || version <= people.version) return;
    people.version = version;
    const gone = new Set(left.map(({ name }) => name).filter((name) => people.map.has(name)));
    for (const person of joined) {
      if (people.map.has(person.name)) continue;
      if (gone.delete(person.was)) addNote(bdi("", person.was), " is now ", bdi("", person.name));
      else addNote(bdi("", person.name), " joined");
    }
    for (const name of gone) addNote(bdi("", name), " left");
    for (const { name } of left) people.map.delete(name);
    for (const person of [...joined, ...updated]) people.map.set(person.name, person);
    showPeople();
  },

  message({ id, name, color, text, time, ref }) {
    if (id === myId) unconfirmed.delete(ref);
    addMessage({ isMine: id === myId, name, color, text, time });
  },

  rooms({ rooms }) {
    showRooms(rooms);
  },

  error({ text }) {
    // The page checks before it sends, so this is about what was sent last.
    const [reference, unsent] = [...unconfirmed].pop() ?? [];
    if (unsent && !$("text").value) {
      $("text").value = unsent;
      onTyped();
    }
    unconfirmed.delete(reference);
    showProblem(text[0].toUpperCase() + text.slice(1) + ".");
  },
};

function showProblem(text) {
  $("problem").textContent = text;
}

// ---- Who is here

const people = { version: undefined, map: new Map() };

function showPeople() {
  const isMe = ({ name }) => name === me.name;
  const byName = [...people.map.values()].sort(
    (a, b) => isMe(b) - isMe(a) || a.name.localeCompare(b.name),
  );
  const known = new Map([...$("people").children].map((line) => [line.dataset.name, line]));
  const lines = byName.map(({ name, color, tabs }) => {
    // Kept where it is known, so that only those who come are seen to come.
    const line = known.get(name) ?? make("li");
    line.dataset.name = name;
    const about = [name === me.name ? "you" : "", tabs > 1 ? `${tabs} tabs` : ""];
    line.replaceChildren(
      avatar(name, color),
      bdi("name", name),
      make("small", "", about.filter(Boolean).join(", ")),
    );
    return line;
  });
  $("people").replaceChildren(...lines);
  for (const count of document.querySelectorAll(".count")) count.textContent = people.map.size;
}

// ---- Rooms

function roomOfAddress() {
  let name = "";
  try {
    name = decodeURIComponent(location.hash.slice(1));
  } catch {
    // Somebody has typed a lonely percent sign.
  }
  return name.trim() || new URLSearchParams(location.search).get("room")?.trim() || FIRST_ROOM;
}

function enterRoom() {
  const name = roomOfAddress();
  closePanels();
  if (name === room) return;
  room = name;
  $("room").textContent = $("room").title = room;
  showTitle();
  showRooms(lastRooms);
  $("messages").replaceChildren();
  lastMessage = undefined;
  $("empty").hidden = false;
  $("newest").hidden = true;
  people.version = undefined;
  people.map.clear();
  showPeople();
  showProblem("");
  unconfirmed.clear();
  attempts = 0;
  const left = socket;
  connect();
  left?.close(1000);
}

let lastRooms = [];

function showRooms(rooms) {
  lastRooms = rooms;
  const shown = rooms.map(({ name, people: count }) => ({ name, count }));
  for (const name of [room, FIRST_ROOM]) {
    if (!shown.some((other) => other.name === name)) shown.push({ name, count: 0 });
  }
  const lines = shown.map(({ name, count }) => {
    const link = make("a");
    link.href = `#${encodeURIComponent(name)}`;
    if (name === room) link.setAttribute("aria-current", "page");
    const size = make("span", "size", count || "");
    if (count) size.setAttribute("aria-label", `${count} here`);
    link.append(bdi("name", name), size);
    const line = make("li");
    line.append(link);
    return line;
  });
  const focused = document.activeElement?.closest("#rooms a")?.href;
  $("rooms").replaceChildren(...lines);
  // The list changes under whoever goes through it by keyboard.
  if (focused) [...$("rooms").querySelectorAll("a")].find(({ href }) => href === focused)?.focus();
}

// ---- What is said

let lastMessage;
let unseen = 0;
// Who reads further up is not moved.
let isAtEnd = true;

function addMessage({ isMine, name, color, text, time }) {
  const isAgain = lastMessage?.name === name && lastMessage.isMine === isMine
    && time - lastMessage.time < 300_000;
  lastMessage = { name, isMine, time };
  const line = make("li", "said");
  line.classList.toggle("mine", isMine);
  line.classList.toggle("again", isAgain);
  const head = make("div", "head");
  const author = bdi("author", isMine ? "You" : name);
  paint(author, color);
  const said = new Date(time);
  const clock = make("time", "", said.toLocaleTimeString([], { timeStyle: "short" }));
  clock.dateTime = said.toISOString();
  clock.title = said.toLocaleString();
  head.append(author, clock);
  const body = make("div", "text", text);
  body.dir = "auto";
  body.title = clock.title;
  line.append(avatar(name, color), head, body);
  add(line, isMine);
  if (document.hidden && !isMine) {
    unseen += 1;
    showTitle();
  }
}

function addNote(...parts) {
  lastMessage = undefined;
  const line = make("li", "note");
  line.append(...parts);
  add(line, false);
}

function add(line, mustBeSeen) {
  if (line.classList.contains("said")) $("empty").hidden = true;
  const messages = $("messages");
  messages.append(line);
  while (messages.children.length > MOST_MESSAGES) messages.firstChild.remove();
  if (isAtEnd || mustBeSeen) toEnd();
  else $("newest").hidden = false;
}

function toEnd() {
  $("scroller").scrollTop = $("scroller").scrollHeight;
}

function showTitle() {
  document.title = `${unseen ? `(${unseen}) ` : ""}#${room} · sockeye`;
}

function onTyped() {
  const text = $("text");
  // Where CSS does not let it grow by itself.
  if (!CSS.supports("field-sizing", "content")) {
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight + 2}px`;
  }
}

function say() {
  const text = $("text").value.trim();
  if (!text || !isConnected()) return;
  const length = [...text].length;
  if (length > LONGEST_TEXT) {
    showProblem(`That is ${length} characters; a message has ${LONGEST_TEXT} at most.`);
    return;
  }
  showProblem("");
  lastReference += 1;
  unconfirmed.set(lastReference, text);
  send({ type: "say", text, ref: lastReference });
  $("text").value = "";
  onTyped();
}

// ---- Panels, which on small screens come over the room

function closePanels() {
  for (const panel of document.querySelectorAll(".panel.open")) {
    panel.classList.remove("open");
    const opener = document.querySelector(`[aria-controls=${panel.id}]`);
    opener.setAttribute("aria-expanded", "false");
    if (panel.contains(document.activeElement)) opener.focus();
  }
}

function openPanel(opener) {
  closePanels();
  const panel = $(opener.getAttribute("aria-controls"));
  panel.classList.add("open");
  opener.setAttribute("aria-expanded", "true");
  panel.querySelector(".close-panel").focus();
}

// ---- The corner to try /echo

let echo;

function showEchoState(state) {
  $("status").textContent = state;
  $("status").dataset.state = state;
}

function addEcho(kind, text) {
  $("log").append(make("li", kind, text));
  while ($("log").children.length > 100) $("log").firstChild.remove();
  $("log").scrollTop = $("log").scrollHeight;
}

function connectEcho() {
  showEchoState("connecting");
  echo = new WebSocket(`${location.origin.replace(/^http/, "ws")}/echo`);
  echo.onopen = () => showEchoState("open");
  echo.onmessage = ({ data }) => addEcho("received", data);
  echo.onclose = ({ code, reason }) => {
    showEchoState("closed");
    addEcho("closed", `closed with ${code} ${reason}; send something to connect again`);
  };
}

// ---- What the person does

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  say();
  $("text").focus();
});

$("text").addEventListener("input", onTyped);
$("text").addEventListener("keydown", (event) => {
  // While a word is being composed, Enter belongs to the input method.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  say();
});

$("scroller").addEventListener("scroll", ({ target }) => {
  isAtEnd = target.scrollHeight - target.scrollTop - target.clientHeight < 60;
  if (isAtEnd) $("newest").hidden = true;
});
// As when the keyboard of a phone comes up.
new ResizeObserver(() => isAtEnd && toEnd()).observe($("scroller"));
$("newest").addEventListener("click", () => {
  toEnd();
  $("text").focus();
});

$("retry").addEventListener("click", retryNow);
addEventListener("online", retryNow);
addEventListener("hashchange", enterRoom);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen = 0;
  showTitle();
  retryNow();
});

$("room-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("room-name").value.trim().replace(/\s+/g, " ");
  if (!name) return;
  $("room-name").value = "";
  location.hash = encodeURIComponent(name);
  closePanels();
  $("text").focus();
});

$("share").addEventListener("click", async ({ currentTarget: button }) => {
  const link = new URL(`#${encodeURIComponent(room)}`, location.origin + location.pathname);
  try {
    await navigator.clipboard.writeText(link);
    button.textContent = "Copied";
  } catch {
    // Without https or localhost there is no clipboard, and the address is the link as well.
    location.hash = link.hash;
    button.textContent = "It is in the address bar";
  }
  setTimeout(() => (button.textContent = "Copy link"), 2_000);
});

for (const hue of HUES) {
  const label = make("label", "swatch");
  const input = make("input");
  Object.assign(input, { type: "radio", name: "color", value: hue });
  input.setAttribute("aria-label", `Colour ${HUES.indexOf(hue) + 1}`);
  paint(label, hue);
  label.append(input, make("span"));
  $("colors").append(label);
}

$("edit").addEventListener("click", () => {
  closePanels();
  $("name").value = me.name;
  const form = $("profile-form");
  form.elements.color.value = me.color;
  $("profile").showModal();
  $("name").select();
});
$("cancel").addEventListener("click", () => $("profile").close());
$("profile-form").addEventListener("submit", () => {
  const name = $("name").value.trim().replace(/\s+/g, " ");
  const color = Number($("profile-form").elements.color.value || me.color);
  if (!name) return;
  // The server says what became of it; without one it is for the next connection.
  if (isConnected()) send({ type: "rename", name, color });
  else setProfile(name, color);
  if ($("state").dataset.state === "closed") connect();
});

for (const opener of document.querySelectorAll(".opens")) {
  opener.addEventListener("click", () => openPanel(opener));
}
for (const closer of document.querySelectorAll(".close-panel")) {
  closer.addEventListener("click", closePanels);
}
document.querySelector("main").addEventListener("click", ({ target }) => {
  if (!target.closest(".opens")) closePanels();
});
addEventListener("keydown", ({ key }) => {
  if (key === "Escape") closePanels();
});

$("echo").addEventListener("toggle", () => {
  if ($("echo").open && !echo) connectEcho();
});
$("echo-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const message = $("message").value;
  if (echo.readyState > WebSocket.OPEN) connectEcho();
  if (echo.readyState !== WebSocket.OPEN || message === "") return;
  echo.send(message);
  addEcho("sent", message);
  $("message").value = "";
});

showProfile();
enterRoom();
