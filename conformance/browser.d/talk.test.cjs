// People who talk: messages, rooms, names, presence, files, and where the reader is.

const assert = require("node:assert/strict");
const { createHash, randomBytes } = require("node:crypto");
const fs = require("node:fs");

const { bot, eventually, join, saw, say, scenario, sees, texts } = require("./stage.cjs");

scenario("two pages chat", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann");
  const ben = await stage.guest(url, "Ben");

  await say(ann, "<b>not bold</b> & \u{1F389}");
  await saw(ben, "<b>not bold</b> & \u{1F389}");
  await say(ben, "two\nlines");
  await saw(ann, "<b>not bold</b> & \u{1F389}", "two\nlines");

  assert.deepEqual(await texts(ann, "#messages b"), []);
  assert.deepEqual(await texts(ann, "#messages li.mine .bubble"), ["<b>not bold</b> & \u{1F389}"]);
  assert.deepEqual(await texts(ben, "#messages li.mine .bubble"), ["two\nlines"]);
  assert.deepEqual(await texts(ben, "#messages .by bdi"), ["Ann", "You"]);
});

scenario("links can be followed safely", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann");
  const said = "see https://example.org/a_(b)?c=1, (http://example.com/). Not javascript:alert(1) or https://";
  await say(ann, said);
  await saw(ann, said);
  const links = await ann.$$eval(".bubble a", (all) => all.map(({ href, target, rel }) => [href, target, rel]));
  assert.deepEqual(
    links.map(([href]) => href),
    ["https://example.org/a_(b)?c=1", "http://example.com/"],
  );
  for (const [, target, rel] of links) {
    assert.equal(target, "_blank");
    assert.match(rel, /\bnoopener\b.*\bnoreferrer\b/);
  }
});

scenario("rooms keep apart, and their names can be anything", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann", "café & 世界");
  const ben = await stage.guest(url, "Ben", "lobby");
  await say(ann, "in the café");
  await saw(ann, "in the café");
  await say(ben, "in the lobby");
  await saw(ben, "in the lobby");
  await sees(ann, "#people li", ["Ann"]);

  // The address leads another page to the same room.
  assert.equal(decodeURIComponent(new URL(ann.url()).hash), "#café & 世界");
  const cem = await stage.guest(url, "Cem", "café & 世界");
  await saw(cem, "in the café");
  await sees(ann, "#people li", ["Ann", "Cem"]);
});

scenario("another room in the address is another room in the page", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann", "one");
  const ben = await stage.guest(url, "Ben", "two");
  await say(ben, "in two");
  await ann.evaluate(() => (location.hash = "two"));
  await saw(ann, "in two");
  await sees(ann, "#room-name", ["two"]);
  await sees(ann, "#people li", ["Ann", "Ben"]);
});

scenario("a name that is taken gets a number", async (stage) => {
  const { url } = await stage.server();
  const first = await stage.guest(url, "Ann");
  const second = await stage.guest(url, "Ann");
  await sees(first, "#people li", ["Ann", "Ann 2"]);
  await sees(second, "#people li.me", ["Ann 2"]);
  await sees(second, "#news", ["Ann is taken here: you are Ann 2"]);
  await say(first, "which of us");
  await saw(second, "which of us");
  assert.deepEqual(await texts(second, "#messages li.mine"), []);
});

scenario("people come and go", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann");
  const ben = await stage.guest(url, "Ben");
  const cem = await stage.guest(url, "Cem");
  for (const page of [ann, ben, cem]) await eventually(async () => (await texts(page, "#people li")).sort(), NAMES);
  await cem.click("#leave");
  await sees(ann, "#people li", ["Ann", "Ben"]);
  await ben.close();
  await sees(ann, "#people li", ["Ann"]);
  await sees(ann, "#news", ["Ben left"]);
});

const NAMES = ["Ann", "Ben", "Cem"];

scenario("others see who types, until the message is there", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann");
  const ben = await stage.guest(url, "Ben");
  await ben.locator("#text").pressSequentially("hel");
  await sees(ann, "#typing", ["Ben is typing…"]);
  await ben.press("#text", "Enter");
  await saw(ann, "hel");
  for (const page of [ann, ben]) assert.deepEqual(await texts(page, "#typing"), [""]);
});

scenario("many messages at once wait until the server takes them", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann");
  const all = Array.from({ length: 25 }, (_, i) => `message ${i + 1}`);
  await ann.evaluate((all) => {
    for (const text of all) {
      document.querySelector("#text").value = text;
      document.querySelector("#compose").requestSubmit();
    }
  }, all);
  await saw(ann, ...all);
  await sees(ann, "#error:not([hidden])", []);
});

scenario("a page that is loaded again has the last 100 messages", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann");
  const all = Array.from({ length: 105 }, (_, i) => `message ${i + 1}`);
  // No more than 20 messages from one connection at once.
  for (let said = 0; said < all.length; said += 15) {
    const ben = await bot(ann, "Ben");
    for (const text of all.slice(said, said + 15)) await ben.say(text);
    await ben.leave();
  }
  await saw(ann, ...all);
  await ann.reload();
  await saw(ann, ...all.slice(-100));
  await sees(ann, "#status", ["Connected"]);
  // And it is where the newest is.
  await eventually(() => ann.$eval("#conversation", (c) => c.scrollHeight - c.scrollTop - c.clientHeight < 2), true);
});

scenario("a file of 5 MiB arrives as it was", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann");
  const ben = await stage.guest(url, "Ben");
  const bytes = randomBytes(5 << 20);
  await ann.setInputFiles("#file", stage.file("Ausflug 世界.bin", bytes));
  await sees(ben, "#messages a.file", ["Ausflug 世界.bin5 MiB"]);
  for (const page of [ann, ben]) {
    const download = page.waitForEvent("download");
    await page.click("#messages a.file");
    const file = await download;
    assert.equal(file.suggestedFilename(), "Ausflug 世界.bin");
    assert.equal(digest(fs.readFileSync(await file.path())), digest(bytes));
  }
  const answer = await fetch(await ben.$eval("#messages a.file", (link) => link.href));
  assert.match(answer.headers.get("content-disposition"), /^attachment/);
  assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
});

function digest(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}

scenario("a file that is too large is refused before it is sent", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann");
  await ann.setInputFiles("#file", stage.file("long.bin", Buffer.alloc((8 << 20) + 1)));
  await sees(ann, "#error span", ["long.bin is 8 MiB long. A file may have up to 8 MiB."]);
  await ann.setInputFiles("#file", stage.file("fits.bin", Buffer.alloc(8 << 20)));
  await sees(ann, "#messages a.file bdi", ["fits.bin"]);
  await sees(ann, "#error:not([hidden])", []);
});

scenario("who reads what was before stays there, and is told of what is new", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann");
  const ben = await stage.guest(url, "Ben");
  await say(ann, Array.from({ length: 60 }, (_, i) => `line ${i}`).join("\n"));
  await eventually(() => texts(ben, "#messages li").then((all) => all.length), 1);
  await eventually(() => ben.isHidden("#to-end"), true);
  await ben.$eval("#conversation", (conversation) => (conversation.scrollTop = 100));
  await eventually(() => texts(ben, "#to-end:not([hidden]) span"), ["To the end"]);
  await say(ann, "one");
  await eventually(() => texts(ben, "#to-end span"), ["1 new message"]);
  await say(ann, "two");
  await eventually(() => texts(ben, "#to-end span"), ["2 new messages"]);
  assert.equal(await ben.$eval("#conversation", (conversation) => conversation.scrollTop), 100);
  await ben.click("#to-end");
  await eventually(() => ben.isHidden("#to-end"), true);
  await say(ann, "three");
  await eventually(() => ben.locator("#messages li").last().textContent().then((last) => last.endsWith("three")), true);
  assert(await ben.isHidden("#to-end"));
  await eventually(() => ben.$eval("#conversation", (c) => c.scrollHeight - c.scrollTop - c.clientHeight < 2), true);
});

scenario("the name is remembered, by each page its own", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann");
  const ben = await ann.context().newPage();
  await ben.goto(`${url}#lobby`);
  assert.equal(await ben.inputValue("#name"), "Ann");
  await join(ben, "Ben");
  await ann.reload();
  await sees(ann, "#people li.me", ["Ann"]);
  await ben.reload();
  await sees(ben, "#people li.me", ["Ben"]);
});
