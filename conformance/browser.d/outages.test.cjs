// What becomes of a page when a server, or the Redis between two servers, goes away and comes back.

const assert = require("node:assert/strict");

const { AWAY, eventually, freePort, join, saw, say, scenario, sees, texts } = require("./stage.cjs");

scenario("a page outlives a restart of its server, and nothing is lost or comes twice", async (stage) => {
  const server = await stage.server();
  const ann = await stage.guest(server.url, "Ann", "lobby", { expects: AWAY });
  const ben = await stage.guest(server.url, "Ben", "lobby", { expects: AWAY });
  await say(ann, "before");
  await saw(ben, "before");

  await server.stop("SIGTERM");
  for (const page of [ann, ben]) await sees(page, "#status", ["Reconnecting…"]);
  await say(ann, "written while it was away");
  await sees(ann, "#outbox .bubble", ["written while it was away"]);
  await ann.setInputFiles("#file", stage.file("a.txt", "as was this"));
  await sees(ann, "#outbox .bubble", ["written while it was away", "a.txt"]);

  await stage.server({ port: server.port });
  for (const page of [ann, ben]) {
    await sees(page, "#status", ["Connected"]);
    await eventually(async () => (await page.$$("#people li")).length, 2);
  }
  await sees(ann, "#outbox li", []);
  await say(ben, "after");
  await saw(ann, "before", "written while it was away", "a.txt11 bytes", "after");
  await saw(ben, "before", "written while it was away", "a.txt11 bytes", "after");
});

scenario("a message whose connection ends is sent once", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.page({ expects: AWAY });
  const ben = await stage.guest(url, "Ben");
  // Between page and server: the message reaches the server, but its echo is lost with the connection.
  let cut = true;
  await ann.routeWebSocket(/\/ws\?/, (page) => {
    const server = page.connectToServer();
    server.onMessage((data) => {
      if (cut && JSON.parse(data).text === "once") {
        cut = false;
        page.close({ code: 1012 });
        server.close();
      } else {
        page.send(data);
      }
    });
  });
  await ann.goto(`${url}#lobby`);
  await ann.fill("#name", "Ann");
  await ann.press("#name", "Enter");
  await sees(ann, "#status", ["Connected"]);
  await say(ann, "before");
  await say(ann, "once");
  await say(ann, "and the next");
  for (const page of [ann, ben]) await saw(page, "before", "once", "and the next");
});

scenario("a message without an answer is sent over another connection", async (stage) => {
  const { url } = await stage.server();
  const ann = await stage.page();
  await ann.clock.install();
  let connections = 0;
  await ann.routeWebSocket(/\/ws\?/, (page) => {
    page.connectToServer();
    connections++;
    if (connections === 1) page.onMessage(() => {}); // what the page sends is lost without a word
  });
  await ann.goto(`${url}#lobby`);
  await join(ann, "Ann");
  await say(ann, "hello?");
  await sees(ann, "#waiting > p", ["Sending…"]);
  await ann.clock.runFor(20_000);
  await saw(ann, "hello?");
  assert.equal(connections, 2);
});

scenario("a network that comes back is used at once", async (stage) => {
  const server = await stage.server();
  const ann = await stage.page({ expects: AWAY });
  await ann.clock.install();
  await ann.goto(`${server.url}#lobby`);
  await join(ann, "Ann");
  // No timer brings it back.
  await ann.clock.pauseAt(Date.now() + 3_600_000);
  await server.stop("SIGKILL");
  await sees(ann, "#status", ["Reconnecting…"]);
  await stage.server({ port: server.port });
  await ann.context().setOffline(true);
  await ann.context().setOffline(false);
  await sees(ann, "#status", ["Connected"]);
});

scenario("two servers share their rooms by Redis, and heal when it was away", async (stage) => {
  const port = await freePort();
  const redis = await stage.redis(port);
  const [one, two] = [await stage.server({ redis: port }), await stage.server({ redis: port })];
  const ann = await stage.guest(one.url, "Ann");
  const ben = await stage.guest(two.url, "Ben");
  await sees(ann, "#people li", ["Ann", "Ben"]);
  await sees(ben, "#people li", ["Ben", "Ann"]);
  await say(ann, "to the other server");
  await saw(ben, "to the other server");
  await ben.locator("#text").pressSequentially("hm");
  await sees(ann, "#typing", ["Ben is typing…"]);
  await ben.press("#text", "Enter");
  await ann.setInputFiles("#file", stage.file("a.txt", "of the other server"));
  await saw(ben, "to the other server", "hm", "a.txt19 bytes");
  const file = await fetch(await ben.$eval("#messages a.file", (link) => link.href));
  assert.equal(await file.text(), "of the other server");

  await redis.stop();
  for (const page of [ann, ben]) await sees(page, "#status", ["This server is cut off from the others"]);
  await say(ann, "to myself");
  await saw(ann, "to the other server", "hm", "a.txt19 bytes", "to myself");

  await stage.redis(port);
  for (const page of [ann, ben]) await sees(page, "#status", ["Connected"]);
  await say(ben, "there you are");
  // What was said to one server alone comes to the other in any order.
  const all = ["a.txt19 bytes", "hm", "there you are", "to myself", "to the other server"];
  for (const page of [ann, ben]) {
    await eventually(async () => (await texts(page, "#messages li .bubble")).sort(), all);
    await eventually(async () => (await texts(page, "#people li")).sort(), ["Ann", "Ben"]);
  }
});
