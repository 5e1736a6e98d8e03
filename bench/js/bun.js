// Bun's own server: bun bun.js --port N [--mode bcast] [--deflate takeover|no-takeover]
import { parseArgs } from 'node:util';
const string = { type: 'string' };
const { values } = parseArgs({ args: Bun.argv.slice(2), options: { port: string, mode: string, deflate: string } });
const perMessageDeflate = {
  takeover: { compress: 'dedicated', decompress: 'dedicated' },
  'no-takeover': { compress: 'shared', decompress: 'shared' },
};
const deflate = perMessageDeflate[values.deflate] ?? false;
Bun.serve({
  hostname: '127.0.0.1',
  port: Number(values.port),
  fetch(request, server) {
    if (server.upgrade(request)) return;
    return new Response('no', { status: 400 });
  },
  websocket: {
    maxPayloadLength: 64 << 20,
    backpressureLimit: 256 << 20,
    idleTimeout: 960,
    sendPings: false,
    perMessageDeflate: deflate,
    open(ws) {
      if (values.mode === 'bcast') ws.subscribe('b');
    },
    message(ws, message) {
      if (values.mode === 'bcast') {
        ws.publish('b', message);
        ws.send(message);
      } else {
        ws.send(message, !!deflate);
      }
    },
  },
});
