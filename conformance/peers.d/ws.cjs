// The npm package ws as a peer; started by conformance/peers.
//
//     node ws.cjs client URL MAX_MESSAGE     checks the echo server at URL, which takes the subprotocol `chat`
//     node ws.cjs deflate URL MAX_MESSAGE    checks the echo server at URL, which compresses
//     node ws.cjs server                     echoes; prints its address, then `closed CODE` for each connection
//     node ws.cjs deflate-server             the same, compressing; prints `closed CODE EXTENSION`

'use strict';

const assert = require('node:assert');
const { randomBytes } = require('node:crypto');
const { once } = require('node:events');
const WebSocket = require('ws');

const CHECK_MS = 10_000;

const [role, url, maxMessage] = process.argv.slice(2);

const checks = {
  'text': () => withSocket((socket) => echo(socket, 'hello')),
  'binary': () => withSocket((socket) => echo(socket, Buffer.from([0, 1, 0x7f, 0x80, 0xff]))),
  'empty-text': () => withSocket((socket) => echo(socket, '')),
  'empty-binary': () => withSocket((socket) => echo(socket, Buffer.alloc(0))),
  'non-ascii-text': () => withSocket((socket) => echo(socket, 'grüße, 世界 🌍')),
  'text-of-70000-bytes': () => withSocket((socket) => echo(socket, 'x'.repeat(70_000))),
  'largest-binary': () => withSocket((socket) => echo(socket, patterned(Number(maxMessage)))),

  'order-of-100': () => withSocket(async (socket) => {
    const sent = Array.from({ length: 100 }, (_, number) => `message ${number}`);
    const received = [];
    const all = new Promise((resolve) => {
      socket.on('message', (data) => received.push(data.toString()) === sent.length && resolve());
    });
    sent.forEach((message) => socket.send(message));
    await all;
    assert.deepStrictEqual(received, sent);
  }),

  'fragmented-text': () => withSocket(async (socket) => {
    const reply = once(socket, 'message');
    socket.send('frag', { fin: false });
    socket.ping(); // RFC 6455 section 5.4: control frames may come between fragments.
    socket.send('men', { fin: false });
    socket.send('ted', { fin: true });
    const [data, isBinary] = await reply;
    assert.deepStrictEqual([data.toString(), isBinary], ['fragmented', false]);
  }),

  'ping': () => withSocket(async (socket) => {
    const pong = once(socket, 'pong');
    socket.ping('payload');
    assert.strictEqual((await pong).toString(), 'payload');
  }),

  'subprotocol': () => withSocket((socket) => assert.strictEqual(socket.protocol, 'chat'), ['other', 'chat']),

  'close': () => withSocket(async (socket) => {
    const closed = closeEvent(socket);
    socket.close(4000, 'bye');
    const { code, wasClean } = await closed;
    assert.deepStrictEqual({ code, wasClean }, { code: 4000, wasClean: true });
  }),

  'wrong-path': async () => {
    const socket = new WebSocket(new URL('/wrong', url));
    const [request, response] = await once(socket, 'unexpected-response');
    request.destroy();
    assert.strictEqual(response.statusCode, 404);
  },

  'too-large': () => withSocket(async (socket) => {
    const closed = closeEvent(socket);
    socket.send(patterned(Number(maxMessage) + 1));
    assert.strictEqual((await closed).code, 1009);
  }),

  'two-connections': () => withSocket((one) => withSocket(async (other) => {
    await Promise.all([echo(one, 'one'), echo(other, 'other')]);
    await Promise.all([echo(other, 'other again'), echo(one, 'one again')]);
  })),
};

const deflateChecks = {
  'text-of-2-kib': () => withCompression((socket) => echo(socket, json(2048))),
  'json-of-100-kib': () => withCompression((socket) => echo(socket, json(100 * 1024))),
  'random-binary-of-1-mib': () => withCompression((socket) => echo(socket, randomBytes(1024 * 1024))),

  'one-after-the-other': () => withCompression(async (socket) => {
    for (const payload of ['hello', '', json(2048), randomBytes(5000), Buffer.alloc(0), json(100 * 1024), 'hello']) {
      await echo(socket, payload);
      await echo(socket, payload);
    }
  }),

  'fragmented-text': () => withCompression(async (socket) => {
    const reply = once(socket, 'message');
    socket.send(json(5000), { fin: false });
    socket.ping();
    socket.send('', { fin: false });
    socket.send('end', { fin: true });
    const [data] = await reply;
    assert.strictEqual(data.toString(), `${json(5000)}end`);
  }),

  'uncompressed-between': () => withCompression(async (socket) => {
    for (const compress of [true, false, true]) {
      const reply = once(socket, 'message');
      socket.send(json(5000), { compress });
      const [data] = await reply;
      assert.strictEqual(data.toString(), json(5000));
    }
  }),
};

async function runClient(checks) {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await within(CHECK_MS, check());
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`FAIL ${name}: ${error.message.replace(/\s+/g, ' ')}`);
    }
  }
}

function runServer(perMessageDeflate) {
  const server = new WebSocket.Server({ host: '127.0.0.1', port: 0, perMessageDeflate });
  server.on('listening', () => console.log(`listening on ws://127.0.0.1:${server.address().port}/`));
  server.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    socket.on('close', (code) => console.log(`closed ${code} ${socket.extensions}`.trim()));
  });
}

async function withSocket(use, subprotocols = []) {
  const socket = new WebSocket(url, subprotocols);
  const failed = new Promise((_, reject) => socket.on('error', reject));
  try {
    await Promise.race([failed, once(socket, 'open').then(() => use(socket))]);
  } finally {
    socket.terminate();
  }
}

const withCompression = (use) => withSocket((socket) => {
  assert.strictEqual(socket.extensions, 'permessage-deflate');
  return use(socket);
});

async function echo(socket, payload) {
  const reply = once(socket, 'message');
  socket.send(payload);
  const [data, isBinary] = await reply;
  assert.strictEqual(isBinary, typeof payload !== 'string', 'the type changed');
  assert(data.equals(Buffer.from(payload)), `${data.length} bytes came back, not those that were sent`);
}

function closeEvent(socket) {
  return new Promise((resolve) => socket.addEventListener('close', resolve));
}

function json(length) {
  const rows = Array.from({ length: length / 16 }, (_, index) => ({ id: index, name: `row ${index % 97}` }));
  return JSON.stringify(rows).slice(0, length);
}

function patterned(length) {
  return Buffer.from(Uint8Array.from({ length }, (_, index) => index % 251));
}

async function within(milliseconds, promise) {
  let timer;
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}

switch (role) {
  case 'client':
    runClient(checks).then(() => process.exit());
    break;
  case 'deflate':
    runClient(deflateChecks).then(() => process.exit());
    break;
  default:
    runServer(role === 'deflate-server');
}
