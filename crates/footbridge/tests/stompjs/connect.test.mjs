// CONNECT: versions, and what CONNECTED says.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Stomp, Versions } from '@stomp/stompjs';
import WebSocket from 'ws';
import { Raw, Session, bodies, unique } from './clients.mjs';
import { Log, Node } from './node.mjs';

let node;
before(async () => {
  node = await Node.start();
});
after(() => node.stop());

for (const version of ['1.0', '1.1', '1.2']) {
  test(`a client that speaks only ${version} connects and exchanges messages`, async (t) => {
    const stompVersions = new Versions([version]);
    const session = await Session.connect(t, node.url, { stompVersions });
    assert.equal(session.headers.version, version);
    assert.equal(session.client.webSocket.protocol, `v${version.replace('.', '')}.stomp`);
    const destination = `/topic/${unique('version')}`;
    const messages = await session.subscribe(destination);
    await session.publish(destination, `spoken in ${version}`);
    assert.equal((await messages.item(0)).body, `spoken in ${version}`);
  });
}

test('a client that speaks all versions gets the highest', async (t) => {
  const session = await Session.connect(t, node.url);
  assert.equal(session.headers.version, '1.2');
});

test('sessions of all versions share a topic', async (t) => {
  const destination = `/topic/${unique('shared')}`;
  const logs = await Promise.all(['1.0', '1.1', '1.2'].map(async (version) => {
    const stompVersions = new Versions([version]);
    const session = await Session.connect(t, node.url, { stompVersions });
    return session.subscribe(destination);
  }));
  const sender = await Session.connect(t, node.url);
  await sender.publish(destination, 'to every version');
  for (const messages of logs) assert.equal((await messages.item(0)).body, 'to every version');
});

test('a WebSocket that names no sub-protocol is served as well', async (t) => {
  const webSocketFactory = () => new WebSocket(node.url);
  const session = await Session.connect(t, node.url, { webSocketFactory });
  assert.equal(session.client.webSocket.protocol, '');
  assert.equal(session.headers.version, '1.2');
});

test('the older API, Stomp.over, works as it did', async (t) => {
  const client = Stomp.over(() => new WebSocket(node.url));
  client.debug = () => {};
  client.reconnect_delay = 0;
  const connected = new Log();
  client.connect('ann', 'secret', (frame) => connected.add(frame));
  t.after(() => client.deactivate({ force: true }));
  assert.equal((await connected.item(0)).headers['user-name'], 'ann');
  const destination = `/topic/${unique('older')}`;
  const messages = new Log();
  client.subscribe(destination, (message) => messages.add(message));
  client.send(destination, { mine: 'kept' }, 'from the older API');
  const message = await messages.item(0);
  assert.deepEqual([message.body, message.headers.mine], ['from the older API', 'kept']);
});

test('the STOMP command connects as CONNECT does', async (t) => {
  const raw = await Raw.open(t, node.url);
  raw.send('STOMP\naccept-version:1.2\nhost:test\n\n\0');
  assert.equal((await raw.frames.item(0)).command, 'CONNECTED');
});

test('CONNECTED names the session, the server and the heart-beats it offers', async (t) => {
  const one = await Session.connect(t, node.url);
  const other = await Session.connect(t, node.url);
  assert.match(one.headers.session, /^\S{22,}$/);
  assert.notEqual(one.headers.session, other.headers.session);
  assert.match(one.headers.server, /^Footbridge\/\d+\.\d+\.\d+/);
  assert.equal(one.headers['heart-beat'], '10000,10000');
});

test('login names the user', async (t) => {
  const connectHeaders = { login: 'Zoë', passcode: 'any' };
  const session = await Session.connect(t, node.url, { connectHeaders });
  assert.equal(session.headers['user-name'], 'Zoë');
});

test('a session without login is anonymous', async (t) => {
  const session = await Session.connect(t, node.url);
  assert.equal(session.headers['user-name'], 'anonymous');
});

test('frames in one WebSocket message, and a frame in many, are one stream', async (t) => {
  const raw = await Raw.open(t, node.url);
  const destination = `/topic/${unique('stream')}`;
  const text = 'CONNECT\naccept-version:1.2\nhost:test\n\n\0\n'
    + `SUBSCRIBE\nid:0\ndestination:${destination}\n\n\0\r\n`
    + `SEND\ndestination:${destination}\n\ntogether\0`;
  raw.send(text);
  assert.equal((await raw.received('MESSAGE')).body.toString(), 'together');
  for (const byte of `SEND\ndestination:${destination}\n\nin single bytes\0`) raw.send(byte);
  await raw.frames.until((frames) => frames.filter(({ command }) => command === 'MESSAGE').length === 2, 'two messages');
  assert.equal(raw.frames[raw.frames.length - 1].body.toString(), 'in single bytes');
});

test('DISCONNECT is answered with its receipt and a normal close', async (t) => {
  const session = await Session.connect(t, node.url);
  const receipts = [];
  session.client.onDisconnect = (frame) => receipts.push(frame.headers['receipt-id']);
  session.client.disconnectHeaders = { receipt: 'good-bye' };
  await session.client.deactivate();
  assert.deepEqual(receipts, ['good-bye']);
  assert.ok([1000, 1005].includes((await session.closed.item(0)).code));
});

test('DISCONNECT without a receipt is answered with a normal close', async (t) => {
  const raw = await Raw.connect(t, node.url);
  raw.send('DISCONNECT\n\n\0');
  assert.equal((await raw.closed.item(0)).code, 1000);
  assert.deepEqual(raw.frames.map(({ command }) => command), ['CONNECTED']);
});

test('what was sent before DISCONNECT is delivered', async (t) => {
  const destination = `/topic/${unique('last')}`;
  const receiver = await Session.connect(t, node.url);
  const messages = await receiver.subscribe(destination);
  const sender = await Session.connect(t, node.url);
  for (let n = 0; n < 50; n += 1) sender.client.publish({ destination, body: String(n) });
  await sender.client.deactivate();
  await messages.until((log) => log.length === 50, '50 messages');
  assert.deepEqual(bodies(messages), Array.from({ length: 50 }, (_, n) => String(n)));
});
