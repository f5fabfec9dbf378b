// SockJS in a real browser, Debian's Chromium (CHROMIUM names another one): each transport that stock
// sockjs-client has there, forced in turn, below new and classic stomp.js.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { unique } from './clients.mjs';
import { Node, PATIENCE } from './node.mjs';

const COUNT = 1_000;
/** Those for Internet Explorer are not here: xdr-streaming, xdr-polling. */
const TRANSPORTS = [
  'websocket', 'xhr-streaming', 'eventsource', 'iframe-eventsource', 'htmlfile', 'iframe-htmlfile',
  'xhr-polling', 'iframe-xhr-polling', 'jsonp-polling',
];
const SCRIPTS = {
  '/sockjs-1.6.js': './node_modules/sockjs-client/dist/sockjs.min.js',
  '/sockjs-1.5.js': './node_modules/sockjs-client-1.5/dist/sockjs.min.js',
  '/stomp-7.js': './node_modules/@stomp/stompjs/bundles/stomp.umd.min.js',
  '/stomp-2.js': '../../../chat/page/stomp.min.js',
};

let browser;
let node;
let site;
before(async () => {
  const args = [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
  ];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args });
  // The page of iframes loads the client from here, as others would from their site.
  site = createServer(serve).listen(0, '127.0.0.1');
  await new Promise((resolve) => { site.once('listening', resolve); });
  node = await start();
});
after(async () => {
  await browser?.close();
  await node?.stop();
  site?.close();
});

function start(listen) {
  const client = `http://127.0.0.1:${site.address().port}/sockjs-1.6.js`;
  return Node.start({ listen, env: { FOOTBRIDGE_SOCKJS__CLIENT_URL: client } });
}

async function serve(request, response) {
  const { pathname } = new URL(request.url, 'http://site');
  const [type, body] = await content(pathname);
  response.writeHead(body === undefined ? 404 : 200, { 'content-type': type });
  response.end(body);
}

/** The page with the scripts that its name says, or a script. */
async function content(pathname) {
  if (SCRIPTS[pathname]) {
    return ['text/javascript', await readFile(fileURLToPath(new URL(SCRIPTS[pathname], import.meta.url)))];
  }
  const [, sockjs, stomp] = /^\/page-sockjs-([\d.]+)-stomp-(\d)\.html$/.exec(pathname) ?? [];
  if (!sockjs) return ['text/plain', undefined];
  return ['text/html', `<!doctype html><script src="/sockjs-${sockjs}.js"></script><script src="/stomp-${stomp}.js"></script>`];
}

/** A page with these clients, at the node's own origin or at that of the site. */
async function open(t, { sockjs = '1.6', stomp = '7', own = true } = {}) {
  const context = await browser.newContext();
  t.after(() => context.close());
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  if (!own) {
    await page.goto(`http://127.0.0.1:${site.address().port}/page-sockjs-${sockjs}-stomp-${stomp}.html`);
    return page;
  }
  // What is served there says nothing, and lets any script in.
  await page.goto(url());
  for (const script of [`/sockjs-${sockjs}.js`, `/stomp-${stomp}.js`]) {
    await page.addScriptTag({ path: fileURLToPath(new URL(SCRIPTS[script], import.meta.url)) });
  }
  return page;
}

const url = () => `http://${node.address}/ws`;

/** In the page: sends so many messages to itself over a transport; what came back, and over what. */
function exchange([url, transport, destination, count]) {
  return new Promise((resolve, reject) => {
    const bodies = [];
    let socket;
    const client = new StompJs.Client({
      webSocketFactory: () => {
        socket = new SockJS(url, null, transport ? { transports: transport } : {});
        return socket;
      },
      reconnectDelay: 0,
      onStompError: (frame) => reject(new Error(frame.body)),
      onWebSocketClose: (event) => reject(new Error(`closed: ${event.code} ${event.reason}`)),
      onConnect: () => {
        client.subscribe(destination, (message) => {
          bodies.push(message.body);
          if (bodies.length === count) resolve({ bodies, transport: socket.transport });
        });
        for (let n = 0; n < count; n += 1) client.publish({ destination, body: `${n} "ü"\u2028` });
      },
    });
    client.activate();
  });
}

const expected = Array.from({ length: COUNT }, (_, n) => `${n} "ü"\u2028`);

for (const transport of TRANSPORTS) {
  test(`${transport}: ${COUNT} messages both ways, in order, none lost`, async (t) => {
    const page = await open(t);
    const seen = await page.evaluate(exchange, [url(), transport, `/topic/${unique('browser')}`, COUNT]);
    assert.equal(seen.transport, transport);
    assert.deepEqual(seen.bodies, expected);
  });
}

for (const transport of ['websocket', 'xhr-streaming', 'xhr-polling', 'jsonp-polling']) {
  test(`${transport}: from a page of another origin`, async (t) => {
    const page = await open(t, { own: false });
    const seen = await page.evaluate(exchange, [url(), transport, `/topic/${unique('foreign')}`, COUNT]);
    assert.equal(seen.transport, transport);
    assert.deepEqual(seen.bodies, expected);
  });
}

test('a client that may choose takes WebSocket, and falls back where that is turned off', async (t) => {
  const page = await open(t);
  const destination = `/topic/${unique('choice')}`;
  assert.equal((await page.evaluate(exchange, [url(), null, destination, 1])).transport, 'websocket');
  const other = await open(t, { own: false });
  await other.context().addInitScript(() => { window.WebSocket = class { constructor() { throw new Error('not here'); } }; });
  await other.reload();
  const seen = await other.evaluate(exchange, [url(), null, destination, 1]);
  assert.equal(seen.transport, 'xhr-streaming');
});

for (const [sockjs, stomp] of [['1.5', '7'], ['1.5', '2'], ['1.6', '2']]) {
  test(`sockjs-client ${sockjs} with stomp.js ${stomp}`, async (t) => {
    const page = await open(t, { sockjs, stomp });
    const destination = `/topic/${unique('classic')}`;
    for (const transport of ['websocket', 'xhr-streaming', 'xhr-polling']) {
      if (stomp === '7') {
        const seen = await page.evaluate(exchange, [url(), transport, destination, 10]);
        assert.equal(seen.bodies.length, 10);
      } else {
        const bodies = await page.evaluate(classic, [url(), transport, destination, 10]);
        assert.deepEqual(bodies, expected.slice(0, 10));
      }
    }
  });
}

/** As `exchange`, the way pages of 2014 have it. */
function classic([url, transport, destination, count]) {
  return new Promise((resolve, reject) => {
    const bodies = [];
    const client = Stomp.over(new SockJS(url, null, { transports: [transport] }));
    client.debug = null;
    client.connect({}, () => {
      client.subscribe(destination, (message) => {
        bodies.push(message.body);
        if (bodies.length === count) client.disconnect(() => resolve(bodies));
      });
      for (let n = 0; n < count; n += 1) client.send(destination, {}, `${n} "ü"\u2028`);
    }, reject);
  });
}

test('a page whose node is killed is back once there is one again, over each kind of transport', async (t) => {
  const page = await open(t, { own: false });
  const transports = ['websocket', 'xhr-streaming', 'eventsource', 'xhr-polling', 'jsonp-polling'];
  await page.evaluate(([url, transports]) => {
    window.connected = {};
    for (const transport of transports) {
      window.connected[transport] = 0;
      const client = new StompJs.Client({
        webSocketFactory: () => new SockJS(url, null, { transports: transport }),
        reconnectDelay: 100,
        onConnect: () => { window.connected[transport] += 1; },
      });
      client.activate();
    }
  }, [url(), transports]);
  const times = (count) => page.waitForFunction((count) => Object.values(window.connected).every((times) => times >= count), count);
  await times(1);
  const { address } = node;
  await node.kill();
  node = await start(address);
  await times(2);
});
