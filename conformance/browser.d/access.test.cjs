// The page for everybody: without a mouse, with a screen reader, light and dark, down to 320 pixels.

const assert = require("node:assert/strict");
const path = require("node:path");

const axe = require("axe-core");

const { bot, eventually, join, saw, say, scenario, sees, texts } = require("./stage.cjs");

const NARROW = { viewport: { width: 320, height: 640 } };

scenario("the keyboard is enough", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.page();
  ann.on("filechooser", (chooser) => chooser.setFiles(stage.file("a.txt", "text")));
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
  await ann.keyboard.press("Enter");
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
  await ann.setInputFiles("#file", stage.file(`${"x".repeat(100)}.txt`, "text"));
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
      addEventListener("animationstart", ({ animationName }) => (window.motions += animationName === "arrive"));
    });
    await say(ann, "moves");
    await eventually(() => texts(ann, "#messages li .bubble").then((all) => all.at(-1)), "moves");
    // Two frames later an animation would have begun.
    await ann.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    await eventually(() => ann.evaluate(() => window.motions > 0), some);
  }
});

scenario("nothing is in the page but what its server sent", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.page({ expects: /Content Security Policy|violates/ });
  await ann.goto(url);
  const attempts = await ann.evaluate(() => {
    window.blocked = [];
    addEventListener("securitypolicyviolation", (event) => window.blocked.push(event.effectiveDirective));
    const add = (tag, properties) => document.body.append(Object.assign(document.createElement(tag), properties));
    const attempts = [
      () => add("script", { text: "window.ran = true" }),
      () => add("script", { src: "http://127.0.0.1:9/script.js" }),
      () => add("style", { textContent: "body { color: red }" }),
      () => document.body.setAttribute("style", "color: red"),
      () => add("img", { src: "http://127.0.0.1:9/image.png" }),
      () => add("iframe", { src: "http://127.0.0.1:9/frame.html" }),
      () => fetch("http://127.0.0.1:9/").catch(() => {}),
      () => new WebSocket("ws://127.0.0.1:9/"),
    ];
    for (const attempt of attempts) {
      try {
        attempt();
      } catch {} // a policy about types throws
    }
    return attempts.length;
  });
  await eventually(() => ann.evaluate(() => window.blocked.length), attempts);
  assert.equal(await ann.evaluate(() => window.ran), undefined);
});

for (const colorScheme of ["light", "dark"]) {
  scenario(`accessibility checks find nothing, ${colorScheme}`, async (stage) => {
    const { url } = await stage.server();
    const ann = await stage.page({ colorScheme, reducedMotion: "reduce", bypassCSP: true });
    await ann.goto(url);
    await axeFindsNothing(ann);
    await join(ann, "Ann");
    await axeFindsNothing(ann);

    // All that a room can have in it.
    const ben = await bot(ann, "Ben");
    for (const text of ["see https://example.org/", "and again"]) await ben.say(text);
    await ben.sendFile("b.txt", 1);
    await say(ann, "yes: https://example.org/");
    await ann.setInputFiles("#file", stage.file("a.txt", "text"));
    await sees(ann, "#messages a.file bdi", ["b.txt", "a.txt"]);
    await ann.setInputFiles("#file", stage.file("c.txt", Buffer.alloc((8 << 20) + 1)));
    await ben.type();
    await sees(ann, "#typing", ["Ben is typing…"]);
    await axeFindsNothing(ann);

    await ann.setViewportSize(NARROW.viewport);
    await ann.click("#show-people");
    await axeFindsNothing(ann);
  });
}

scenario("screenshots", async (stage) => {
  const [room, viewport] = ["Thursday walk", { width: 1000, height: 790 }];
  const views = [
    ["chat-light", { viewport }],
    ["chat-dark", { viewport, colorScheme: "dark" }],
    ["chat-narrow", { viewport: { width: 390, height: 780 } }],
  ];
  for (const [name, options] of views) {
    const { url } = await stage.server();
    const ann = await stage.page({ reducedMotion: "reduce", ...options });
    await ann.goto(`${url}#${encodeURIComponent(room)}`);
    const others = {};
    for (const who of ["Ben", "Grace", "Łukasz"]) others[who] = await bot(ann, who, room);
    await join(ann, "Ann");
    for (const [index, [who, text]] of SAID.entries()) {
      const file = text.match(/^file (.+)/);
      if (who === "Ann") await say(ann, text);
      else if (file) await others[who].sendFile(file[1], 482_133);
      else await others[who].say(text);
      await eventually(() => ann.$$eval("#messages li", (all) => all.length), index + 1);
    }
    await others.Ben.type();
    await sees(ann, "#typing", ["Ben is typing…"]);
    await ann.screenshot({ path: path.join(process.env.SCREENSHOTS, `${name}.png`) });
  }
});

const SAID = [
  ["Grace", "Hello! Who is in for the long way round the lake? \u{1F97E}"],
  ["Ben", "Me. The train at 9:12 still runs, I looked: https://example.org/timetable"],
  ["Ann", "Me too. I bring coffee and the good thermos."],
  ["Ann", "Grace, do you have last year’s map?"],
  ["Grace", "file lake-and-ridge.pdf"],
  ["Grace", "The ridge is dotted. Past the hut it gets steep, so boots, please."],
  ["Łukasz", "I join you at the hut around noon."],
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
