// The npm package ws: node ws.cjs --port N [--mode bcast] [--deflate takeover|no-takeover]
const { parseArgs } = require('node:util');
const { WebSocketServer } = require('ws');
const string = { type: 'string' };
const { values } = parseArgs({ options: { port: string, mode: string, deflate: string } });
const perMessageDeflate = {
  takeover: { threshold: 0 },
  'no-takeover': { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
};
const wss = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(values.port),
  backlog: 4096,
  maxPayload: 64 << 20,
  perMessageDeflate: perMessageDeflate[values.deflate] ?? false,
});
wss.on('connection', (ws) => {
  ws.on('error', () => {});
  if (values.mode === 'bcast') {
    ws.on('message', (data, isBinary) => {
      for (const c of wss.clients) c.send(data, { binary: isBinary });
    });
  } else {
    ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
  }
});
