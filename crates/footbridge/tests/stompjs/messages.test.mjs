// Bodies and headers: what is sent is what arrives.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Raw, Session, frame, unique } from './clients.mjs';
import { Node } from './node.mjs';

let node;
before(async () => {
  node = await Node.start();
});
after(() => node.stop());

/** Sends one message through the node and resolves to what arrives. */
async function roundTrip(t, body, headers = {}, options = {}) {
  const destination = `/topic/${unique('round-trip')}`;
  const session = await Session.connect(t, node.url, options);
  const messages = await session.subscribe(destination);
  await session.publish(destination, body, headers);
  return messages.item(0, 'the message');
}

test('a binary body with every byte, NUL among them, arrives unchanged', async (t) => {
  const body = Uint8Array.from({ length: 512 }, (_, n) => n % 256);
  const message = await roundTrip(t, body, { 'content-type': 'application/octet-stream' });
  assert.deepEqual(Buffer.from(message.binaryBody), Buffer.from(body));
  assert.equal(message.headers['content-length'], '512');
});

test('a text body with NULs arrives unchanged', async (t) => {
  const message = await roundTrip(t, 'a\0b\0\0c');
  assert.equal(message.body, 'a\0b\0\0c');
});

test('a body goes out as text if it is UTF-8, and as binary if not', async (t) => {
  const raw = await Raw.connect(t, node.url);
  const destination = `/topic/${unique('opcode')}`;
  raw.send(frame('SUBSCRIBE', { id: 0, destination }));
  raw.send(frame('SEND', { destination }, 'Grüße'));
  raw.send(Buffer.concat([Buffer.from(`SEND\ndestination:${destination}\n\n`), Buffer.from([0xff, 0xfe, 0])]));
  const messages = (log) => log.filter(({ command }) => command === 'MESSAGE');
  await raw.frames.until((log) => messages(log).length === 2, 'two messages');
  const [text, binary] = messages(raw.frames);
  assert.deepEqual([text.binary, text.body.toString()], [false, 'Grüße']);
  assert.deepEqual([binary.binary, [...binary.body]], [true, [0xff, 0xfe]]);
});

test('a binary WebSocket message carries text as well', async (t) => {
  const message = await roundTrip(t, 'sent as binary', {}, { forceBinaryWSFrames: true });
  assert.equal(message.body, 'sent as binary');
});

test('a large text in stomp.js chunks of 16 KiB arrives whole', async (t) => {
  const body = 'é'.repeat(32 * 1024 - 256);
  const message = await roundTrip(t, body, {}, { splitLargeFrames: true, maxWebSocketChunkSize: 16 * 1024 });
  assert.equal(message.body, body);
  assert.equal(message.headers['content-length'], String(64 * 1024 - 512));
});

test('a large binary body arrives whole', async (t) => {
  const body = randomBytes(63 * 1024);
  const message = await roundTrip(t, body);
  assert.deepEqual(Buffer.from(message.binaryBody), body);
});

test('an empty body arrives empty', async (t) => {
  const message = await roundTrip(t, '');
  assert.equal(message.body, '');
});

test('content-length counts bytes, not characters', async (t) => {
  const message = await roundTrip(t, 'żółw 🐢');
  assert.equal(message.headers['content-length'], String(Buffer.byteLength('żółw 🐢')));
  assert.equal(message.body, 'żółw 🐢');
});

test('a body without content-length ends at its NUL', async (t) => {
  const destination = `/topic/${unique('no-length')}`;
  const session = await Session.connect(t, node.url);
  const messages = await session.subscribe(destination);
  session.client.publish({ destination, body: 'up to here', skipContentLengthHeader: true });
  assert.equal((await messages.item(0)).body, 'up to here');
});

test('a JSON body arrives with its content type', async (t) => {
  const order = { id: 7, lines: [{ sku: 'ä-1', price: 1.5 }], note: null };
  const message = await roundTrip(t, JSON.stringify(order), { 'content-type': 'application/json;charset=utf-8' });
  assert.equal(message.headers['content-type'], 'application/json;charset=utf-8');
  assert.deepEqual(JSON.parse(message.body), order);
});

for (const [what, value] of [
  ['colons', 'http://[::1]:80/'], ['a line break', 'one\ntwo'], ['a carriage return', 'one\r\ntwo'],
  ['backslashes', 'C:\\users\\\\'], ['other scripts', 'Ω 漢字 🚲'], ['nothing', ''], ['spaces inside', 'a  b'], ['8,000 characters', 'v'.repeat(8000)],
]) {
  test(`a header with ${what} arrives unchanged`, async (t) => {
    const message = await roundTrip(t, 'x', { 'my-header': value });
    assert.equal(message.headers['my-header'], value);
  });
}

test('a header that spells out escapes arrives unchanged', async (t) => {
  // stomp.js 7.5.0 itself reads an escaped backslash and an n as a backslash and a line break.
  const destination = `/topic/${unique('escapes')}`;
  const raw = await Raw.connect(t, node.url);
  raw.send(frame('SUBSCRIBE', { id: 0, destination, receipt: 'r' }));
  await raw.received('RECEIPT');
  const sender = await Session.connect(t, node.url);
  await sender.publish(destination, 'x', { 'my-header': '\\n\\c\\\\n\\r:\n' });
  assert.equal((await raw.received('MESSAGE')).headers['my-header'], '\\n\\c\\\\n\\r:\n');
});

test('many headers arrive, each with its value', async (t) => {
  const headers = Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`h-${n}`, `value ${n}`]));
  const message = await roundTrip(t, 'x', headers);
  for (const [name, value] of Object.entries(headers)) assert.equal(message.headers[name], value);
});

test('headers that the server sets cannot be set by a client', async (t) => {
  const forged = { 'message-id': 'forged', subscription: 'forged', redelivered: 'true', 'x-footbridge-user': 'forged', ack: 'forged' };
  const message = await roundTrip(t, 'x', { ...forged, mine: 'kept' });
  for (const name of Object.keys(forged)) assert.notEqual(message.headers[name], forged[name], name);
  assert.equal(message.headers.mine, 'kept');
});

test('of repeated headers the first counts', async (t) => {
  const raw = await Raw.connect(t, node.url);
  const destination = `/topic/${unique('repeated')}`;
  raw.send(frame('SUBSCRIBE', { id: 0, destination }));
  raw.send(`SEND\ndestination:${destination}\ndestination:/topic/elsewhere\nmine:first\nmine:second\n\nx\0`);
  const { headers } = await raw.received('MESSAGE');
  assert.equal(headers.destination, destination);
  assert.equal(headers.mine, 'first');
});

test('lines may end with a carriage return', async (t) => {
  const raw = await Raw.open(t, node.url);
  const destination = `/topic/${unique('crlf')}`;
  raw.send('CONNECT\r\naccept-version:1.2\r\nhost:test\r\n\r\n\0');
  raw.send(`SUBSCRIBE\r\nid:0\r\ndestination:${destination}\r\n\r\n\0\r\n`);
  raw.send(`SEND\r\ndestination:${destination}\r\nmine:value\r\n\r\nbody\r\n\0`);
  const { headers, body } = await raw.received('MESSAGE');
  assert.equal(headers.mine, 'value');
  assert.equal(body.toString(), 'body\r\n');
});
