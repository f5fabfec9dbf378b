// Two gateways behind HAProxy, which sends each request to the next one: stock sockjs-client without sticky sessions.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import SockJS from 'sockjs-client';
import { Session, unique } from './clients.mjs';
import { Log, PATIENCE, Process } from './node.mjs';
import { Cluster } from './nodes.mjs';

const TRANSPORTS = ['websocket', 'xhr-streaming', 'eventsource', 'xhr-polling'];
const COUNT = 1_000;

let cluster;
let balancer;
let directory;
let address;
before(async () => {
  cluster = await Cluster.start({
    FOOTBRIDGE_CLUSTER__LISTEN: '127.0.0.1:0',
    FOOTBRIDGE_CLUSTER__SECRET: 'known to the two gateways of this test',
  });
  directory = await mkdtemp(join(tmpdir(), 'footbridge-haproxy-'));
  address = `127.0.0.1:${await freePort()}`;
  await writeFile(join(directory, 'haproxy.cfg'), configuration(address, cluster.gateways));
  // It says nothing once it is there.
  balancer = new Process();
  // Debian has it where only root looks.
  const haproxy = existsSync('/usr/sbin/haproxy') ? '/usr/sbin/haproxy' : 'haproxy';
  await balancer.spawn(haproxy, ['-db', '-f', join(directory, 'haproxy.cfg')], []);
  await reachable();
});
after(async () => {
  await balancer?.kill();
  await cluster?.stop();
  if (directory) await rm(directory, { recursive: true });
});

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Each request, not each connection, goes to the next gateway. */
function configuration(address, gateways) {
  const servers = gateways.map((gateway, n) => `  server gateway-${n} ${gateway.address} check inter 100ms fall 1 rise 1`);
  return `
global
  maxconn 1000
defaults
  mode http
  timeout connect 1s
  timeout client 1m
  timeout server 1m
  timeout tunnel 1m
  option http-server-close
  option redispatch
  retries 2
frontend clients
  bind ${address}
  default_backend gateways
backend gateways
  balance roundrobin
${servers.join('\n')}
`;
}

async function reachable() {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const up = await fetch(`http://${address}/ws/info`).then((response) => response.ok, () => false);
    if (up) return;
    if (Date.now() > deadline) throw new Error('no gateway behind HAProxy');
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

async function connect(t, address, transport, options = {}) {
  const sockets = new Log();
  const session = await Session.connect(t, undefined, {
    webSocketFactory: () => {
      const socket = new SockJS(`http://${address}/ws`, null, { transports: transport });
      sockets.add(socket);
      return socket;
    },
    ...options,
  });
  assert.equal(sockets[0].transport, transport);
  return session;
}

/** How many requests the gateways have handed over to each other. */
async function handedOver() {
  const texts = await Promise.all(cluster.gateways.map(async ({ admin }) => {
    const response = await fetch(new URL('/metrics', admin));
    return response.text();
  }));
  const count = (text) => Number(/^gateway_forwarded_requests_total\{direction="out"\} (\d+)/m.exec(text)[1]);
  return texts.map(count).reduce((sum, some) => sum + some);
}

async function exchange(t, address, transport) {
  const [there, back] = [`/topic/${unique('there')}`, `/topic/${unique('back')}`];
  const session = await connect(t, address, transport);
  const other = await Session.connect(t, cluster.gateways[1].url);
  const [heard, returned] = [await other.subscribe(there), await session.subscribe(back)];
  heard.each((message) => other.client.publish({ destination: back, body: message.body }));
  for (let n = 0; n < COUNT; n += 1) {
    session.client.publish({ destination: there, body: `${n}` });
    // So that they are many requests and not one.
    if (n % 50 === 0) await new Promise((wake) => setImmediate(wake));
  }
  await returned.until((log) => log.length >= COUNT, `${COUNT} messages back`);
  assert.deepEqual(returned.map((message) => message.body), Array.from({ length: COUNT }, (_, n) => `${n}`));
  assert.equal(session.errors.length, 0);
  await session.client.deactivate();
}

for (const transport of TRANSPORTS) {
  test(`${transport}, any gateway for each request: ${COUNT} messages both ways, in order, none lost`, async (t) => {
    const before = await handedOver();
    await exchange(t, address, transport);
    const count = await handedOver() - before;
    if (transport === 'websocket') assert.equal(count, 0);
    else assert.ok(count > 0, 'requests reached the other gateway');
  });

  test(`${transport}, one gateway for all requests: nothing is handed over`, async (t) => {
    const before = await handedOver();
    await exchange(t, cluster.gateways[0].address, transport);
    assert.equal(await handedOver(), before);
  });
}

test('when a gateway is killed its clients are back at the other, and those of the other stay', async (t) => {
  const sessions = [];
  for (const transport of TRANSPORTS) {
    for (let n = 0; n < 4; n += 1) sessions.push(await connect(t, address, transport, { reconnectDelay: 50 }));
  }
  const topic = `/topic/${unique('after')}`;
  await cluster.gateways[0].kill();
  const sender = await Session.connect(t, cluster.gateways[1].url);
  for (const session of sessions) {
    // Whoever has lost its session notices by then.
    const heard = new Log();
    const hear = () => session.client.subscribe(topic, (message) => heard.add(message.body), { receipt: unique('heard') });
    if (session.client.connected) hear();
    session.connected.each((_, n) => { if (session.connected.length > 1) hear(); });
    const deadline = Date.now() + PATIENCE;
    while (heard.length === 0) {
      if (Date.now() > deadline) throw new Error('a client is not back');
      sender.client.publish({ destination: topic, body: 'there?' });
      await new Promise((wake) => setTimeout(wake, 20));
    }
  }
});
