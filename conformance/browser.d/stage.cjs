// What the tests share: servers, Redis, pages, and waiting for what is to be seen.
//
// Everything listens on 127.0.0.1, and every process is ended by its id when its test is over.

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const readline = require("node:readline");
const test = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { isDeepStrictEqual } = require("node:util");

const { chromium } = require("playwright-core");

const TEST_MS = 120_000;
const SEEN_MS = 30_000; // until something is to be seen; longer than the longest wait before a page connects again
const POLL_MS = 40;

const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
process.on("SIGTERM", () => process.exit(1)); // by default nobody would hear of the exit

let browser; // one for all tests of a file
test.after(() => browser?.close());

/** A test whose pages must end it without an error in their consoles. */
function scenario(name, run) {
  test(name, { timeout: TEST_MS }, async () => {
    const stage = new Stage();
    try {
      await run(stage);
      assert.deepEqual(stage.faults, []);
    } finally {
      await stage.end();
    }
  });
}

class Stage {
  faults = [];
  #ends = [];

  /** Ends what the test began, the last first. */
  async end() {
    for (const end of this.#ends.reverse()) await end();
  }

  /** Starts a server, on any port or on one that it had before. */
  async server({ port = 0, redis } = {}) {
    const child = this.spawn(process.env.CHAT, [
      ...["--listen", `127.0.0.1:${port}`],
      ...(redis ? ["--redis", `redis://127.0.0.1:${redis}/`] : []),
    ]);
    const lines = readline.createInterface(child.stdout);
    const [line] = await Promise.race([once(lines, "line"), once(child, "exit")]);
    const url = String(line).match(/^listening on (http:\/\/127\.0\.0\.1:(\d+)\/)$/);
    assert(url, `the server began with ${line}`);
    return { url: url[1], port: Number(url[2]), stop: (signal) => stop(child, signal) };
  }

  /** Starts Redis, with nothing of it on disk. */
  async redis(port) {
    const options = { "--port": port, "--bind": "127.0.0.1", "--dir": this.#directory(), "--save": "" };
    const child = this.spawn("redis-server", Object.entries(options).flat().map(String));
    await eventually(() => answers(port), true);
    return { stop: () => stop(child, "SIGTERM") };
  }

  /** A file to send. */
  file(name, content) {
    const file = path.join(this.#directory(), name);
    fs.writeFileSync(file, content);
    return file;
  }

  #directory() {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "chat-"));
    this.#ends.push(() => fs.rmSync(directory, { recursive: true }));
    return directory;
  }

  spawn(program, options) {
    const child = spawn(program, options, { stdio: ["ignore", "pipe", "inherit"] });
    children.add(child);
    child.stdout.resume();
    this.#ends.push(() => stop(child, "SIGKILL"));
    return child;
  }

  /** A page in a browser profile of its own. `expects` are errors in the console that belong to the test. */
  async page({ expects, ...options } = {}) {
    const args = ["--no-sandbox", "--disable-quic"]; // the sandbox does not start as root
    browser ??= await chromium.launch({ executablePath: process.env.CHROMIUM, args });
    const context = await browser.newContext({ viewport: { width: 1000, height: 700 }, ...options });
    this.#ends.push(() => context.close());
    context.setDefaultTimeout(SEEN_MS);
    const page = await context.newPage();
    page.on("console", (message) => {
      if (message.type() === "error" && !expects?.test(message.text())) this.faults.push(message.text());
    });
    page.on("pageerror", (error) => this.faults.push(String(error)));
    return page;
  }

  /** A page of somebody who has joined a room. */
  async guest(url, name, room = "lobby", options) {
    const page = await this.page(options);
    await page.goto(`${url}#${encodeURIComponent(room)}`);
    await join(page, name);
    return page;
  }
}

async function join(page, name) {
  await page.fill("#name", name);
  await page.click("#join button");
  await page.waitForSelector("#chat:not([hidden])");
  await sees(page, "#status", ["Connected"]);
}

/** Somebody without a page of their own, whose connection is one of this page. */
async function bot(page, name, room = "lobby") {
  const socket = await page.evaluateHandle(
    ([name, room]) =>
      new Promise((resolve) => {
        const socket = new WebSocket(`/ws?room=${encodeURIComponent(room)}&name=${encodeURIComponent(name)}`);
        socket.onmessage = () => resolve(socket); // the welcome
      }),
    [name, room],
  );
  const send = (message) => socket.evaluate((socket, json) => socket.send(json), JSON.stringify(message));
  return {
    say: (text) => send({ type: "message", text }),
    type: () => send({ type: "typing" }),
    sendFile: async (file, len) => {
      await send({ type: "file", file });
      await socket.evaluate((socket, len) => socket.send(new Uint8Array(len)), len);
    },
    leave: () => socket.evaluate((socket) => socket.close()),
  };
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

/** Waits until the elements that a selector finds have these texts. */
function sees(page, selector, expected) {
  return eventually(() => texts(page, selector), expected);
}

/** Waits until these are all messages of the page, in this order. */
function saw(page, ...expected) {
  return sees(page, "#messages li .bubble", expected);
}

function texts(page, selector) {
  return page.$$eval(selector, (found) => found.map((element) => element.textContent));
}

async function eventually(read, expected) {
  const end = Date.now() + SEEN_MS;
  for (;;) {
    const actual = await read();
    if (isDeepStrictEqual(actual, expected)) return;
    if (Date.now() > end) assert.deepEqual(actual, expected);
    await sleep(POLL_MS);
  }
}

async function stop(child, signal) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill(signal);
  await gone;
  children.delete(child);
}

/** A port that is free. */
async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

async function answers(port) {
  const socket = net.connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** What Chromium itself says of a server that is away. */
const AWAY = /^WebSocket connection to .* failed/;

module.exports = { AWAY, bot, eventually, freePort, join, saw, say, scenario, sees, texts };
