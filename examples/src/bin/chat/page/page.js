// The page of `chat`: one WebSocket, what comes over it shown, and what is written sent until the server has it.
//
// Nothing that a peer sent is ever read as HTML: elements are made one by one, and text is set as text.

const MAX_FILE = 8 * 1024 * 1024; // what the server takes in one message
const MAX_SHOWN = 1000; // entries that the page keeps
const FIRST_RETRY = 500;
const LAST_RETRY = 10_000;
const PACE = 220; // between two messages; the server takes five a second
const LASTED = 5000; // a connection that was not in vain
const TYPING_EVERY = 2000;
const TYPING_SHOWN = 5000;
const NEWS_SHOWN = 5000;
const GROUP = 5 * 60_000; // what one person says within this time stands under one name
const STALLED = 15_000; // how long the server may take for what was sent
const SLOWEST = 32; // bytes in a millisecond, of a network that is slow and not away
const REFUSED = [1007, 1008, 1009]; // codes that say that what was sent must not be sent again

const $ = (selector) => document.querySelector(selector);
const [door, join, nameField, roomField, joinError] = ["#door", "#join", "#name", "#room", "#join-error"].map($);
const [chat, status, people, panel, showPeople] =
  ["#chat", "#status", "#people", "#people-panel", "#show-people"].map($);
const [conversation, log, messages, waiting, outbox, empty, toEnd] =
  ["#conversation", "#messages", "#messages ol", "#waiting", "#outbox", "#empty", "#to-end"].map($);
const [compose, text, file, typing, news, error] =
  ["#compose", "#text", "#file", "#typing", "#news", "#error"].map($);

// Who is where

let wanted; // { room, name } that was asked for; undefined in front of the door
let me; // the name that the server gave, with a number where ours was taken; undefined until then
const names = new Set(); // me, and while history comes also who I was on the last connection

function enter(room, name) {
  wanted = { room, name };
  // The next visit begins with this name; this page, loaded again, with its own.
  store("localStorage", "chat.name", name);
  store("sessionStorage", "chat.name", name);
  store("sessionStorage", "chat.room", room);
  if (fragment() !== room) location.hash = encodeURIComponent(room);
  $("#room-name").textContent = room;
  failures = 0;
  connect();
}

function leave() {
  drop();
  wanted = me = undefined;
  names.clear();
  queue.length = 0;
  showQueue();
  shown.clear();
  lastShown = undefined;
  unseen = 0;
  waitingForUs = 0;
  store("sessionStorage", "chat.room", "");
  for (const part of [messages, people, news, status]) part.replaceChildren();
  showError("");
  showDoor();
}

function showDoor() {
  chat.hidden = true;
  door.hidden = false;
  join.querySelector("button").disabled = false;
  document.title = "Chat";
  nameField.value = stored("localStorage", "chat.name");
  roomField.value = fragment() || "lobby";
  (nameField.value ? roomField : nameField).focus();
}

function showChat() {
  if (!chat.hidden) return;
  door.hidden = true;
  chat.hidden = false;
  joinError.textContent = "";
  showTitle();
  text.focus();
}

/** The room that the address names. */
function fragment() {
  try {
    return decodeURIComponent(location.hash.slice(1)).trim();
  } catch {
    return "";
  }
}

join.addEventListener("submit", (event) => {
  event.preventDefault();
  const [name, room] = [nameField.value.trim(), roomField.value.trim()];
  for (const [field, value] of [[nameField, name], [roomField, room]]) {
    if (!value) {
      field.value = "";
      field.reportValidity();
      return;
    }
  }
  joinError.textContent = "";
  join.querySelector("button").disabled = true;
  enter(room, name);
});

$("#leave").addEventListener("click", leave);

addEventListener("hashchange", () => {
  const room = fragment();
  if (wanted && room && room !== wanted.room) {
    const { name } = wanted;
    leave();
    enter(room, name);
  } else if (!wanted && room) {
    roomField.value = room;
  }
});

// The connection

let socket; // undefined while it waits to connect again
let welcomedAt = 0; // on this connection
let failures = 0; // since a connection lasted
let retry;

function connect() {
  drop();
  const [room, name] = [wanted.room, me ?? wanted.name].map(encodeURIComponent);
  const url = new URL(`/ws?room=${room}&name=${name}`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const mine = (socket = new WebSocket(url));
  // What a connection that was dropped still says is no longer for us.
  socket.onmessage = ({ data }) => {
    if (mine !== socket) return;
    const message = JSON.parse(data);
    handlers[message.type]?.(message);
  };
  socket.onopen = () => (mine.opened = true);
  socket.onclose = ({ code, reason }) => {
    if (mine.opened) document.body.dataset.closeCode = code;
    if (mine === socket) lost(code, reason);
  };
}

/** Lets go of the connection, and of the attempt to have one. */
function drop() {
  clearTimeout(retry);
  const old = socket;
  socket = undefined;
  old?.close(1000);
  welcomedAt = 0;
  for (const name of [...typers.keys()]) stopsTyping(name);
  if (queue[0]) queue[0].sentAt = undefined;
  showQueue();
}

function lost(code, reason) {
  if (REFUSED.includes(code) && queue[0]?.sentAt) showError(`The server did not take ${refused().label}.`);
  // A server that ends every connection at once is asked as seldom as one that is away.
  if (welcomedAt && Date.now() - welcomedAt > LASTED) failures = 0;
  drop();
  if (!door.hidden) {
    // The first attempt: whoever stands at the door can read what happened, and try again.
    wanted = undefined;
    store("sessionStorage", "chat.room", "");
    joinError.textContent = reason || "The server does not answer. Try again in a moment.";
    join.querySelector("button").disabled = false;
    return;
  }
  const longest = Math.min(LAST_RETRY, FIRST_RETRY * 2 ** failures++);
  retry = setTimeout(connect, longest * (0.5 + Math.random() / 2));
  showStatus("Reconnecting…", "away");
}

// A network that came back is another one, and what went over the last may be lost without a word.
addEventListener("online", () => door.hidden && connect());

// Nor does a browser tell when nobody answers.
setInterval(() => {
  const head = queue[0];
  if (!head?.sentAt) return;
  if (socket.bufferedAmount !== head.buffered) {
    head.buffered = socket.bufferedAmount;
    head.movedAt = Date.now();
    showQueue();
  } else if (Date.now() - head.movedAt > STALLED + (head.bytes?.byteLength ?? 0) / SLOWEST) {
    lost();
  }
}, 1000);

// What comes

const handlers = {
  welcome({ name, people, history, shared }) {
    const again = me !== undefined;
    if (name !== (me ?? wanted.name)) showNews(`${wanted.name} is taken here: you are ${name}`);
    welcomedAt = Date.now();
    me = name;
    names.add(me);
    // A screen reader is told how much there is, and reads it when asked to.
    log.ariaLive = "off";
    const missed = history.filter(showEntry).length;
    if (again && missed) showNews(`${count(missed, "message")} came in the meantime`);
    setTimeout(() => (log.ariaLive = "polite"), 500);
    for (const other of names) if (other !== me) names.delete(other);
    showPeopleList(people);
    showShared(shared);
    empty.hidden = messages.childElementCount > 0;
    showChat();
    if (!again) {
      waitingForUs = 0;
      showTitle();
      scrollToEnd();
    }
    flush();
  },
  message: takeEntry,
  file: takeEntry,
  joined({ name }) {
    showPeopleList([...peopleNames(), name]);
    showNews(`${name} joined`);
  },
  left({ name }) {
    stopsTyping(name);
    showPeopleList(peopleNames().filter((other) => other !== name));
    showNews(`${name} left`);
  },
  people: ({ people }) => showPeopleList(people),
  typing: ({ name }) => startsTyping(name),
  status: ({ shared }) => showShared(shared),
  error({ text: why }) {
    showError(why);
    if (queue[0]?.sentAt) refused();
    flush();
  },
};

function takeEntry(entry) {
  showEntry(entry);
  flush();
}

// What goes
//
// Only one message or file is under way. It stays at the head of the queue until it has come back as an entry, so
// after a lost connection the history tells whether it must be sent again: nothing is lost, and nothing comes twice.

const queue = []; // { label, text } or { label, file, bytes }
let mayGoAt = 0;
let goes;

function send(item) {
  queue.push(item);
  item.element = make("li", { className: "mine" });
  item.element.append(make("p", { className: "bubble", dir: "auto", textContent: item.text ?? item.file }));
  outbox.append(item.element);
  flush();
  scrollToEnd();
}

/** Sends the head of the queue, unless it waits for its entry or for its time. */
function flush() {
  clearTimeout(goes);
  showQueue();
  const head = queue[0];
  if (!head || head.sentAt || !welcomedAt || socket.readyState !== WebSocket.OPEN) return;
  const early = mayGoAt - Date.now();
  if (early > 0) {
    goes = setTimeout(flush, early);
    return;
  }
  const say = (message) => socket.send(JSON.stringify(message));
  if (head.bytes) {
    say({ type: "file", file: head.file });
    socket.send(head.bytes);
  } else {
    say({ type: "message", text: head.text });
  }
  head.tried = true;
  head.sentAt = head.movedAt = Date.now();
  head.buffered = 0;
  mayGoAt = head.sentAt + (head.bytes ? 2 : 1) * PACE;
  showQueue();
}

/** What waits to be sent, below what was said. */
function showQueue() {
  outbox.replaceChildren(...queue.map((item) => item.element));
  const [head] = queue;
  waiting.hidden = !head;
  if (!head) return;
  const left = head.buffered / head.bytes?.byteLength;
  const done = left > 0 ? ` ${Math.floor(100 * Math.max(0, 1 - left))} %` : "";
  waiting.lastElementChild.textContent = welcomedAt ? `Sending…${done}` : "Waiting for the connection";
}

/** Is this entry what we wait for? */
function arrived(entry) {
  const head = queue[0];
  if (!head?.tried || !names.has(entry.name)) return;
  const same = head.bytes ? entry.file === head.file && entry.size === head.bytes.byteLength : entry.text === head.text;
  if (same) queue.shift();
}

/** The head of the queue is not to be sent again. Its text goes back to where it can be changed. */
function refused() {
  const head = queue.shift();
  if (head.text && !text.value) {
    text.value = head.text;
    fitText();
  }
  return head;
}

compose.addEventListener("submit", (event) => {
  event.preventDefault();
  const words = text.value.trim();
  if (!words) return;
  showError("");
  text.value = "";
  fitText();
  toldTypingAt = 0;
  text.focus();
  send({ label: "your message", text: words });
});

text.addEventListener("keydown", (event) => {
  // While an input method composes, Enter belongs to it.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    compose.requestSubmit();
  }
});

let toldTypingAt = 0;

text.addEventListener("input", () => {
  fitText();
  if (text.value && socket?.readyState === WebSocket.OPEN && Date.now() - toldTypingAt >= TYPING_EVERY) {
    toldTypingAt = Date.now();
    socket.send(JSON.stringify({ type: "typing" }));
  }
});

async function sendFiles(files) {
  showError("");
  for (const chosen of files) {
    if (chosen.size > MAX_FILE) {
      showError(`${chosen.name} is ${size(chosen.size)} long. A file may have up to ${size(MAX_FILE)}.`);
      continue;
    }
    try {
      const name = chosen.name.replace(/\p{Cc}/gu, " ").slice(-255);
      send({ label: name, file: name, bytes: await chosen.arrayBuffer() });
    } catch {
      showError(`${chosen.name} cannot be read.`);
    }
  }
}

file.addEventListener("change", async () => {
  const files = [...file.files];
  file.value = ""; // so that the same file can be chosen again
  await sendFiles(files);
});

text.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) {
    event.preventDefault();
    sendFiles([...event.clipboardData.files]);
  }
});

chat.addEventListener("dragover", (event) => {
  if (event.dataTransfer.types.includes("Files")) {
    event.preventDefault();
    chat.classList.add("dropping");
  }
});

chat.addEventListener("dragleave", (event) => {
  if (!chat.contains(event.relatedTarget)) chat.classList.remove("dropping");
});

chat.addEventListener("drop", (event) => {
  event.preventDefault();
  chat.classList.remove("dropping");
  sendFiles([...event.dataTransfer.files]);
});

// The messages

const shown = new Set(); // ids
let lastShown; // the last entry
let unseen = 0; // below what is in view
let waitingForUs = 0; // while the page was in the background

/** Shows a message or a file; false for one that is there. */
function showEntry(entry) {
  if (shown.has(entry.id)) return false;
  shown.add(entry.id);
  arrived(entry);
  stopsTyping(entry.name);

  const mine = names.has(entry.name);
  const date = new Date(entry.time);
  const newDay = date.toDateString() !== (lastShown && new Date(lastShown.time).toDateString());
  const follows = !newDay && lastShown.name === entry.name && entry.time - lastShown.time < GROUP;
  lastShown = entry;

  const item = named(make("li"), entry.name);
  item.dataset.id = entry.id;
  item.classList.toggle("mine", mine);
  item.classList.toggle("follows", follows);
  if (newDay) item.append(make("p", { className: "day", textContent: day(date) }));
  const time = make("time", { dateTime: date.toISOString(), textContent: clock.format(date) });
  time.title = date.toLocaleString();
  const by = make("p", { className: "by" });
  by.append(make("bdi", { textContent: mine ? "You" : entry.name }), " ", time);
  item.append(by, entry.type === "file" ? fileCard(entry) : bubble(entry.text));

  messages.append(item);
  if (messages.childElementCount > MAX_SHOWN) {
    shown.delete(messages.firstElementChild.dataset.id);
    messages.firstElementChild.remove();
  }
  empty.hidden = true;
  if (staysAtEnd || mine) scrollToEnd();
  else unseen++;
  if (document.hidden && !mine) waitingForUs++;
  showUnseen();
  showTitle();
  return true;
}

function bubble(words) {
  // Text in Arabic or Hebrew runs from the right, whatever the page does.
  const bubble = make("p", { className: "bubble", dir: "auto" });
  let rest = 0;
  for (const match of words.matchAll(/\bhttps?:\/\/[^\s<>"]+/gi)) {
    const address = trimmed(match[0]);
    if (!URL.canParse(address)) continue;
    bubble.append(words.slice(rest, match.index), link(address));
    rest = match.index + address.length;
  }
  bubble.append(words.slice(rest));
  return bubble;
}

function link(address) {
  return make("a", { href: address, textContent: address, target: "_blank", rel: "noopener noreferrer nofollow ugc" });
}

/** An address without the punctuation of the sentence that it stands in. */
function trimmed(address) {
  const end = address.match(/[.,;:!?'"*\]}]+$/)?.[0].length ?? 0;
  const rest = address.slice(0, address.length - end);
  return rest.endsWith(")") && !rest.includes("(") ? trimmed(rest.slice(0, -1)) : rest;
}

function fileCard({ file: name, size: bytes, url }) {
  const where = new URL(url, location.href);
  const ours = where.origin === location.origin;
  const card = make("a", { className: "bubble file" });
  if (ours) Object.assign(card, { href: where.href, download: name });
  const label = make("span");
  label.append(make("bdi", { textContent: name }), make("small", { textContent: size(bytes) }));
  card.append(icon("file"), label);
  return card;
}

// Where the reader is

let staysAtEnd = true;

function scrollToEnd() {
  conversation.scrollTop = conversation.scrollHeight;
  staysAtEnd = true;
  unseen = 0;
  showUnseen();
}

function showUnseen() {
  toEnd.hidden = staysAtEnd;
  toEnd.firstElementChild.textContent = unseen ? count(unseen, "new message") : "To the end";
}

conversation.addEventListener("scroll", () => {
  staysAtEnd = conversation.scrollHeight - conversation.scrollTop - conversation.clientHeight < 32;
  if (staysAtEnd) unseen = 0;
  showUnseen();
});

// A keyboard that slides in, or a longer text, must not push away the end.
new ResizeObserver(() => staysAtEnd && scrollToEnd()).observe(conversation);

toEnd.addEventListener("click", () => {
  scrollToEnd();
  text.focus();
});

document.addEventListener("visibilitychange", () => {
  waitingForUs = 0;
  showTitle();
});

function showTitle() {
  if (!chat.hidden) document.title = `${waitingForUs ? `(${waitingForUs}) ` : ""}${wanted.room} · Chat`;
}

// People

const typers = new Map(); // name to the timer that ends the notice

function peopleNames() {
  return [...people.children].map((item) => item.textContent);
}

function showPeopleList(list) {
  const sorted = [...new Set(list)].sort((a, b) => names.has(b) - names.has(a) || a.localeCompare(b));
  people.replaceChildren(
    ...sorted.map((name) => {
      const item = named(make("li"), name);
      item.classList.toggle("me", names.has(name));
      item.append(make("bdi", { textContent: name }));
      return item;
    }),
  );
  $("#people-count").textContent = sorted.length;
}

function startsTyping(name) {
  stopsTyping(name);
  typers.set(name, setTimeout(() => stopsTyping(name), TYPING_SHOWN));
  showTyping();
}

function stopsTyping(name) {
  clearTimeout(typers.get(name));
  if (typers.delete(name)) showTyping();
}

function showTyping() {
  const who = [...typers.keys()];
  typing.textContent =
    who.length === 0 ? ""
    : who.length === 1 ? `${who[0]} is typing…`
    : who.length === 2 ? `${who[0]} and ${who[1]} are typing…`
    : "Several people are typing…";
}

showPeople.addEventListener("click", () => openPanel(!panel.classList.contains("open")));

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && panel.classList.contains("open")) {
    openPanel(false);
    showPeople.focus();
  }
});

$("#chat > main").addEventListener("pointerdown", () => openPanel(false));

function openPanel(open) {
  panel.classList.toggle("open", open);
  showPeople.ariaExpanded = String(open);
}

// Lines that tell something

function showShared(shared) {
  if (shared === false) showStatus("This server is cut off from the others", "alone");
  else showStatus("Connected", "connected");
}

function showStatus(words, state) {
  if (status.textContent !== words) status.textContent = words;
  status.dataset.state = state;
}

let newsTimer;

function showNews(words) {
  news.textContent = words;
  clearTimeout(newsTimer);
  newsTimer = setTimeout(() => (news.textContent = ""), NEWS_SHOWN);
}

function showError(words) {
  error.hidden = !words;
  error.firstElementChild.textContent = words;
}

error.querySelector("button").addEventListener("click", () => {
  showError("");
  text.focus();
});

const copyLink = $("#copy-link");
copyLink.hidden = !navigator.clipboard;
copyLink.addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    showNews("The link is copied");
  } catch {
    showError("The link could not be copied. It is in the address bar.");
  }
});

// Helpers

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

/** An element that shows the initial of a name in its colour. */
function named(element, name) {
  element.dataset.initial = [...name][0].toUpperCase();
  let hash = 0;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 360;
  element.style.setProperty("--hue", hash);
  return element;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

function day(date) {
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / 86_400_000);
  return days === 0 ? "Today" : days === 1 ? "Yesterday" : calendar.format(date);
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  const [value, unit] = bytes < 1024 * 1024 ? [bytes / 1024, "KiB"] : [bytes / 1024 / 1024, "MiB"];
  return `${Number(value.toFixed(1))} ${unit}`;
}

function count(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

/** The text field is as high as its text, up to a limit in the style sheet. */
function fitText() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}

/** Storage may be forbidden; then the page forgets. */
function store(storage, key, value) {
  try {
    window[storage].setItem(key, value);
  } catch {}
}

function stored(storage, key) {
  try {
    return window[storage].getItem(key) ?? "";
  } catch {
    return "";
  }
}

// Start: a page that was loaded again is where it was, any other at the door.

const [room, name] = ["chat.room", "chat.name"].map((key) => stored("sessionStorage", key));
if (name && room && room === fragment()) {
  enter(room, name);
  showChat();
  showStatus("Reconnecting…", "away");
} else {
  showDoor();
}
