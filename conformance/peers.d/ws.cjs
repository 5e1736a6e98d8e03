// The npm package ws as a peer; started by conformance/peers.
//
//     node ws.cjs client URL MAX_MESSAGE    checks the echo server at URL, which takes the subprotocol `chat`
//     node ws.cjs server                    echoes; prints its address, then `closed CODE` for each connection

'use strict';

const assert = require('node:assert');
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

async function runClient() {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await within(CHECK_MS, check());
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`FAIL ${name}: ${error.message.replace(/\s+/g, ' ')}`);
    }
  }
}

function runServer() {
  const server = new WebSocket.Server({ host: '127.0.0.1', port: 0 });
  server.on('listening', () => console.log(`listening on ws://127.0.0.1:${server.address().port}/`));
  server.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    socket.on('close', (code) => console.log(`closed ${code}`));
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

if (role === 'client') {
  runClient().then(() => process.exit());
} else {
  runServer();
}
