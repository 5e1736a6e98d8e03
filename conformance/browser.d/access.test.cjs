// The page for everybody: without a mouse, with a screen reader, light and dark, down to 320 pixels.

const assert = require("node:assert/strict");
const path = require("node:path");

const axe = require("axe-core");

const { eventually, saw, say, scenario, sees, texts } = require("./stage.cjs");

const NARROW = { viewport: { width: 320, height: 640 } };
const X = Buffer.from("x");

scenario("the keyboard is enough", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.page();
  await ann.goto(url);
  await focused(ann, "name");
  await ann.keyboard.type("Ann");
  await ann.keyboard.press("Tab");
  await focused(ann, "room");
  await ann.keyboard.press("Control+a");
  await ann.keyboard.type("keys");
  await ann.keyboard.press("Enter");

  await focused(ann, "text");
  await ann.keyboard.type("first");
  await ann.keyboard.press("Shift+Enter");
  await ann.keyboard.type("second");
  await ann.keyboard.press("Enter");
  await saw(ann, "first\nsecond");

  await ann.keyboard.press("Shift+Tab");
  await focused(ann, "file");
  const chooser = ann.waitForEvent("filechooser");
  await ann.keyboard.press("Enter");
  await (await chooser).setFiles({ name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("text") });
  await sees(ann, "#messages a.file bdi", ["a.txt"]);

  // Backwards from there: the file, the conversation that the arrow keys scroll, and the way out.
  await ann.keyboard.press("Shift+Tab");
  assert.equal(await ann.evaluate(() => document.activeElement.className), "bubble file");
  await ann.keyboard.press("Shift+Tab");
  await focused(ann, "conversation");
  await ann.keyboard.press("Shift+Tab");
  await focused(ann, "leave");
  await ann.keyboard.press("Enter");
  await focused(ann, "room");
  assert(await ann.isHidden("#chat"));
});

scenario("on a narrow screen the people are a key away", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann", "lobby", NARROW);
  assert(await ann.isHidden("#people"));
  await ann.focus("#show-people");
  await ann.keyboard.press("Enter");
  assert(await ann.isVisible("#people"));
  assert.equal(await ann.getAttribute("#show-people", "aria-expanded"), "true");
  await ann.keyboard.press("Escape");
  assert(await ann.isHidden("#people"));
  await focused(ann, "show-people");
});

scenario("nothing is wider than a screen of 320 pixels", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.page(NARROW);
  await ann.goto(`${url}#${"r".repeat(32)}`);
  assert.equal(await width(ann), 320);
  await ann.fill("#name", "W".repeat(32));
  await ann.press("#name", "Enter");
  await sees(ann, "#status", ["Connected"]);
  await say(ann, `${"long".repeat(100)} https://example.org/${"path/".repeat(50)}`);
  await ann.setInputFiles("#file", { name: `${"x".repeat(100)}.txt`, mimeType: "text/plain", buffer: X });
  await eventually(() => ann.$$eval("#messages li", (all) => all.length), 2);
  assert.equal(await width(ann), 320);
  for (const box of ["#conversation", "#below", "header"]) {
    assert.deepEqual(await ann.$eval(box, (element) => element.scrollWidth - element.clientWidth), 0, box);
  }
});

scenario("history is not read out, what comes then is", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.guest(url, "Ann");
  await say(ann, "before");
  await saw(ann, "before");
  const ben = await stage.page();
  await ben.addInitScript(() => {
    // What of the log changes while it is in sight and live.
    window.readOut = [];
    const seen = (changes) => {
      for (const { target, addedNodes } of changes) {
        const log = target.closest?.("[role=log]");
        if (!log || log.ariaLive === "off" || log.closest("[hidden]")) continue;
        for (const node of addedNodes) window.readOut.push(node.querySelector(".bubble").textContent);
      }
    };
    new MutationObserver(seen).observe(document, { childList: true, subtree: true });
  });
  await ben.goto(`${url}#lobby`);
  await ben.fill("#name", "Ben");
  await ben.press("#name", "Enter");
  await saw(ben, "before");
  await eventually(() => ben.getAttribute("#messages", "aria-live"), "polite");
  await say(ann, "after");
  await saw(ben, "before", "after");
  assert.deepEqual(await ben.evaluate(() => window.readOut), ["after"]);
});

scenario("who wants no motion has none", async (stage) => {
  const { url } = await stage.server();
  for (const [reducedMotion, some] of [["no-preference", true], ["reduce", false]]) {
    const ann = await stage.guest(url, "Ann", "lobby", { reducedMotion });
    await ann.evaluate(() => {
      window.motions = 0;
      addEventListener("animationstart", () => window.motions++);
    });
    await say(ann, "moves");
    await eventually(() => texts(ann, "#messages li .bubble").then((all) => all.at(-1)), "moves");
    // Two frames later an animation would have begun.
    await ann.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    await eventually(() => ann.evaluate(() => window.motions > 0), some);
  }
});

scenario("nothing runs in the page but its own files", async (stage) => {
  const { url } = await stage.server();
  const answer = await fetch(url);
  const policy = answer.headers.get("content-security-policy");
  assert.match(policy, /(^|; )default-src 'none'(;|$)/);
  assert.doesNotMatch(policy, /unsafe|\*/);
  const ann = await stage.page({ expects: /Content Security Policy/ });
  await ann.goto(url);
  await ann.evaluate(() => {
    const script = document.createElement("script");
    script.text = "window.ran = true";
    document.head.append(script);
  }).catch(() => {}); // trusted types refuse it earlier
  assert.equal(await ann.evaluate(() => window.ran), undefined);
});

for (const colorScheme of ["light", "dark"]) {
  scenario(`accessibility checks find nothing, ${colorScheme}`, async (stage) => {
    const { url } = await stage.server();
    for (const options of [{ colorScheme }, { colorScheme, ...NARROW }]) {
      const ann = await stage.page({ reducedMotion: "reduce", bypassCSP: true, ...options });
      await ann.goto(url);
      await axeFindsNothing(ann);
      await ann.fill("#name", "Ann");
      await ann.press("#name", "Enter");
      await sees(ann, "#status", ["Connected"]);
      const ben = await stage.guest(url, "Ben");
      await say(ben, "see https://example.org/");
      await say(ben, "and again");
      await say(ann, "yes: https://example.org/");
      await ann.setInputFiles("#file", { name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("text") });
      await sees(ann, "#messages a.file bdi", ["a.txt"]);
      await ann.setInputFiles("#file", { name: "b.bin", mimeType: "text/plain", buffer: Buffer.alloc((8 << 20) + 1) });
      await ben.locator("#text").pressSequentially("h");
      await sees(ann, "#typing", ["Ben is typing…"]);
      await axeFindsNothing(ann);
      if (await ann.isVisible("#show-people")) {
        await ann.click("#show-people");
        await axeFindsNothing(ann);
      }
      await ben.click("#leave");
      await ann.click("#leave");
    }
  });
}

scenario("screenshots", async (stage) => {
  const { url } = await stage.server();
  const views = [
    ["chat-light", { colorScheme: "light" }],
    ["chat-dark", { colorScheme: "dark" }],
    ["chat-narrow", { colorScheme: "light", viewport: { width: 390, height: 780 } }],
  ];
  for (const [name, options] of views) {
    const room = { "chat-light": "Thursday walk", "chat-dark": "Night shift", "chat-narrow": "Kitchen" }[name];
    const ann = await stage.guest(url, "Ann", room, { reducedMotion: "reduce", ...options });
    const others = { Ann: ann };
    for (const [who, text] of SAID) {
      others[who] ??= await stage.guest(url, who, room);
      if (text.startsWith("file:")) {
        const file = { name: text.slice(5), mimeType: "application/octet-stream", buffer: Buffer.alloc(482_133) };
        await others[who].setInputFiles("#file", file);
      } else {
        await say(others[who], text);
      }
      const expected = text.startsWith("file:") ? `${text.slice(5)}470.8 KiB` : text;
      await eventually(() => texts(ann, "#messages li .bubble").then((all) => all.at(-1)), expected);
    }
    await others.Ben.locator("#text").pressSequentially("b");
    await sees(ann, "#typing", ["Ben is typing…"]);
    await ann.screenshot({ path: path.join(process.env.SCREENSHOTS, `${name}.png`) });
    for (const page of Object.values(others)) await page.context().close();
  }
});

const SAID = [
  ["Grace", "Morning! Who is in for the long way round the lake? \u{1F97E}"],
  ["Ben", "Me. The train at 9:12 still runs, I looked: https://example.org/timetable"],
  ["Ann", "Me too. I bring coffee and the good thermos."],
  ["Ann", "Grace, do you have last year’s map?"],
  ["Grace", "file:lake-and-ridge.pdf"],
  ["Grace", "The ridge is dotted. Past the hut it gets steep, so boots, please."],
  ["Zoë", "I join you at the hut around noon."],
  ["Ann", "Perfect. See you all on Thursday!"],
];

function focused(page, id) {
  return eventually(() => page.evaluate(() => document.activeElement.id), id);
}

function width(page) {
  return page.evaluate(() => document.scrollingElement.scrollWidth);
}

async function axeFindsNothing(page) {
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(() => window.axe.run());
  const found = violations.flatMap(({ id, help, nodes }) => nodes.map(({ html }) => `${id}: ${help}: ${html}`));
  assert.deepEqual(found, []);
  assert(passes.length > 10, `only ${passes.length} checks had something to look at`);
}
