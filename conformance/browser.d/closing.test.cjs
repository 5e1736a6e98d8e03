// Close codes, as a browser reports them.

const assert = require("node:assert/strict");

const { AWAY, eventually, join, scenario, sees } = require("./stage.cjs");

scenario("a server that shuts down says 1001", async (stage) => {
  const server = await stage.server();
  const ann = await stage.guest(server.url, "Ann", "lobby", { expects: AWAY });
  await server.stop("SIGTERM");
  await eventually(() => closeCode(ann), "1001");
  await sees(ann, "#status", ["Reconnecting…"]);
});

scenario("a server that is killed says nothing, which is 1006", async (stage) => {
  const server = await stage.server();
  const ann = await stage.guest(server.url, "Ann", "lobby", { expects: AWAY });
  await server.stop("SIGKILL");
  await eventually(() => closeCode(ann), "1006");
  await sees(ann, "#status", ["Reconnecting…"]);
});

scenario("a message that is too large ends with 1009", async (stage) => {
  const { url } = await stage.server();
  const page = await stage.page();
  await page.goto(url);
  assert.deepEqual(await closeOf(page, "/ws?room=a&name=b", (8 << 20) + 1), { opened: true, code: 1009 });
});

scenario("what cannot be read ends with 1007 or 1008", async (stage) => {
  const { url } = await stage.server();
  const page = await stage.page();
  await page.goto(url);
  const { opened, code } = await closeOf(page, "/ws?room=a&name=b", "{");
  assert(opened);
  assert([1007, 1008].includes(code), `${code}`);
});

scenario("an upgrade that is refused never opens, which is 1006", async (stage) => {
  const { url } = await stage.server();
  const page = await stage.page({ expects: AWAY });
  await page.goto(url);
  for (const query of ["room=&name=b", `room=a&name=${"n".repeat(33)}`, "room=a&name=%00", "name=b"]) {
    assert.deepEqual(await closeOf(page, `/ws?${query}`), { opened: false, code: 1006 }, query);
  }
});

scenario("a page of another origin is refused", async (stage) => {
  const [ours, other] = [await stage.server(), await stage.server()];
  // The other page's own policy would stop it before the server is asked.
  const page = await stage.page({ expects: AWAY, bypassCSP: true });
  await page.goto(other.url);
  const theirs = `${ours.url.replace("http", "ws")}ws?room=a&name=b`;
  assert.deepEqual(await closeOf(page, theirs), { opened: false, code: 1006 });
});

scenario("a page that cannot join says so, and can try again", async (stage) => {
  const server = await stage.server();
  const ann = await stage.page({ expects: AWAY });
  await ann.goto(server.url);
  await server.stop("SIGKILL");
  await ann.fill("#name", "Ann");
  await ann.press("#name", "Enter");
  await sees(ann, "#join-error", ["The server does not answer. Try again in a moment."]);
  await stage.server({ port: server.port });
  await join(ann, "Ann");
});

function closeCode(page) {
  return page.evaluate(() => document.body.dataset.closeCode);
}

/** How a WebSocket ends over which this text, or so many bytes, are sent. */
function closeOf(page, url, sent) {
  return page.evaluate(
    ([url, sent]) =>
      new Promise((resolve) => {
        const socket = new WebSocket(new URL(url, location.href.replace("http", "ws")));
        let opened = false;
        socket.onopen = () => {
          opened = true;
          if (sent) socket.send(typeof sent === "number" ? new Uint8Array(sent) : sent);
        };
        socket.onclose = ({ code }) => resolve({ opened, code });
      }),
    [url, sent],
  );
}
