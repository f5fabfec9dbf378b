// What a client can do wrong: each gets an ERROR frame that says what, with the failing frame's
// receipt-id, then a close with the documented code, and disturbs no other session.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Raw, Session, frame, unique } from './clients.mjs';
import { Log, Node } from './node.mjs';

const PROTOCOL = 1002;
const INVALID_TEXT = 1007;
const TOO_BIG = 1009;

let node;
/** A session that says something to itself, again and again, whatever the others do. */
let bystander;

before(async () => {
  node = await Node.start();
  bystander = await Bystander.start(node.url);
});
after(async () => {
  await bystander.stop();
  await node.stop();
});

class Bystander {
  received = new Log();
  #stopped = false;

  static async start(url) {
    const bystander = new Bystander();
    bystander.session = new Session(url);
    bystander.session.client.activate();
    await bystander.session.connected.item(0);
    const destination = `/topic/${unique('bystander')}`;
    const messages = await bystander.session.subscribe(destination);
    messages.each(({ body }) => {
      bystander.received.add(Number(body));
      if (!bystander.#stopped) bystander.session.client.publish({ destination, body: String(Number(body) + 1) });
    });
    bystander.session.client.publish({ destination, body: '0' });
    return bystander;
  }

  /** Resolves once two more messages went round: one may have been on its way already. */
  async isUndisturbed() {
    const { length } = this.received;
    await this.received.until((log) => log.length >= length + 2, 'messages of the other session');
    assert.equal(this.received[this.received.length - 1], this.received.length - 1);
    assert.equal(this.session.closed.length, 0);
  }

  async stop() {
    this.#stopped = true;
    await this.session.client.deactivate();
  }
}

async function assertRefused(raw, { message, code, receipt }) {
  const error = await raw.received('ERROR');
  assert.match(error.headers.message, message);
  assert.equal(error.headers['receipt-id'], receipt);
  const closed = await raw.closed.item(0);
  assert.equal(closed.code, code);
  assert.equal(raw.frames[raw.frames.length - 1].command, 'ERROR', 'ERROR is the last frame');
  await bystander.isUndisturbed();
}

const subscribe = (headers) => frame('SUBSCRIBE', headers);
const send = (destination, headers = {}) => frame('SEND', { destination, receipt: 'r', ...headers }, 'x');

/** After CONNECTED: what is sent, and what the ERROR frame says. Closes with 1002. */
const WRONG = [
  ['a second CONNECT', frame('CONNECT', { 'accept-version': '1.2', host: 'x', receipt: 'r' }), /connected already/],
  ['SUBSCRIBE without an id', subscribe({ destination: '/topic/a', receipt: 'r' }), /SUBSCRIBE needs the header "id"/],
  ['SUBSCRIBE without a destination', subscribe({ id: 1, receipt: 'r' }), /SUBSCRIBE needs the header "destination"/],
  ['SUBSCRIBE with an id in use', subscribe({ id: 1, destination: '/topic/a' }) + subscribe({ id: 1, destination: '/topic/b', receipt: 'r' }), /subscription with the id "1" exists already/],
  ['SUBSCRIBE with an unknown ack mode', subscribe({ id: 1, destination: '/topic/a', ack: 'often', receipt: 'r' }), /ack:often.*client-individual/],
  ['SUBSCRIBE to a topic without a name', subscribe({ id: 1, destination: '/topic/', receipt: 'r' }), /'\/topic\/' names no topic/],
  ['SUBSCRIBE to a topic with an empty word', subscribe({ id: 1, destination: '/topic/a..b', receipt: 'r' }), /'\/topic\/a\.\.b' has an empty word/],
  ['SUBSCRIBE to a topic with a separator at its end', subscribe({ id: 1, destination: '/topic/a.b.', receipt: 'r' }), /empty word/],
  ['SUBSCRIBE with a wildcard of another system', subscribe({ id: 1, destination: '/topic/a?', receipt: 'r' }), /holds '\?': the only wildcards are/],
  ['SUBSCRIBE with a wildcard inside a word', subscribe({ id: 1, destination: '/topic/a.b*', receipt: 'r' }), /wildcard inside the word 'b\*'/],
  ['SUBSCRIBE to an unknown prefix', subscribe({ id: 1, destination: '/nope/x', receipt: 'r' }), /'\/nope\/x' is not a valid destination.*\/topic/],
  ['SUBSCRIBE with a prefetch-count that is no number', subscribe({ id: 1, destination: '/queue/a', 'prefetch-count': 'many', receipt: 'r' }), /prefetch-count/],
  ['SEND without a destination', frame('SEND', { receipt: 'r' }, 'x'), /SEND needs the header "destination"/],
  ['SEND to a wildcard', send('/topic/a.*'), /'\/topic\/a\.\*' is a pattern/],
  ['SEND to a topic with an empty word', send('/topic/a//b'), /empty word/],
  ['SEND to an unknown prefix', send('/nope/x'), /is not a valid destination/],
  ['SEND in a transaction that was not begun', send('/topic/a', { transaction: 't' }), /transaction "t", which is not open/],
  ['COMMIT of a transaction that was not begun', frame('COMMIT', { transaction: 't', receipt: 'r' }), /transaction "t", which is not open/],
  ['BEGIN of a transaction that is open', frame('BEGIN', { transaction: 't' }) + frame('BEGIN', { transaction: 't', receipt: 'r' }), /transaction with the id "t" is open already/],
  ['ACK of nothing', frame('ACK', { id: '0.0', receipt: 'r' }), /nothing to acknowledge under "0\.0"/],
  ['ACK without an id', frame('ACK', { receipt: 'r' }), /ACK needs the header "id"/],
  ['a frame that only servers send', frame('MESSAGE', { receipt: 'r' }), /MESSAGE is a frame that servers send/],
  ['an undefined escape', 'SEND\nreceipt:r\ndestination:/topic/a\nx:\\t\n\n\0', /undefined escape "\\t"/],
  ['a header without a colon', 'SEND\nreceipt:r\nno colon here\n\n\0', /header line without a colon/],
  ['a header that is not UTF-8', Buffer.from('SEND\nreceipt:r\nx:\xff\n\n\0', 'latin1'), /header that is not utf-8/],
  ['a content-length that is no number', 'SEND\nreceipt:r\ndestination:/topic/a\ncontent-length:2x\n\nab\0', /content-length is "2x"/],
  ['a body longer than its content-length', 'SEND\nreceipt:r\ndestination:/topic/a\ncontent-length:1\n\nab\0', /no nul after the body/],
  ['a body where none may be', 'SUBSCRIBE\nreceipt:r\nid:1\ndestination:/topic/a\n\nbody\0', /SUBSCRIBE has a body/],
];
for (const [what, bytes, message] of WRONG) {
  test(`${what} is refused`, async (t) => {
    const raw = await Raw.connect(t, node.url);
    raw.send(bytes);
    await assertRefused(raw, { message, code: PROTOCOL, receipt: 'r' });
  });
}

/** Bytes that name no receipt. */
const NO_STOMP = [
  ['an unknown command', frame('HELLO', { receipt: 'r' }), /unknown command "HELLO"/],
  ['a command in small letters', frame('send', { destination: '/topic/a' }), /unknown command "send"/],
  ['text that is not STOMP', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n', /unknown command "GET \/ HTTP\/1\.1"/],
  ['bytes that are not STOMP', Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0xff, 0x00, 0x0a]), /unknown command/],
];
for (const [what, bytes, message] of NO_STOMP) {
  test(`${what} is refused`, async (t) => {
    const raw = await Raw.connect(t, node.url);
    raw.send(bytes);
    await assertRefused(raw, { message, code: PROTOCOL });
  });
  test(`${what} is refused before CONNECT`, async (t) => {
    const raw = await Raw.open(t, node.url);
    raw.send(bytes);
    await assertRefused(raw, { message, code: PROTOCOL });
  });
}

test('a frame before CONNECT is refused', async (t) => {
  const raw = await Raw.open(t, node.url);
  raw.send(send('/topic/a'));
  await assertRefused(raw, { message: /expected CONNECT or STOMP as the first frame, got SEND/, code: PROTOCOL, receipt: 'r' });
});

test('a version that nobody speaks is refused, with those that are spoken', async (t) => {
  const raw = await Raw.open(t, node.url);
  raw.send(frame('CONNECT', { 'accept-version': '0.9,3.0', host: 'x' }));
  await assertRefused(raw, { message: /no common version/, code: PROTOCOL });
  assert.equal(raw.frames[0].headers.version, '1.0,1.1,1.2');
});

test('a frame longer than 64 KiB in chunks is refused', async (t) => {
  const raw = await Raw.connect(t, node.url);
  raw.send('SEND\nreceipt:r\ndestination:/topic/a\n\n');
  for (let n = 0; n < 5; n += 1) raw.send('x'.repeat(16 * 1024));
  await assertRefused(raw, { message: /more than 65536 bytes/, code: TOO_BIG, receipt: 'r' });
});

test('a frame announced to be longer than 64 KiB is refused at once', async (t) => {
  const raw = await Raw.connect(t, node.url);
  raw.send('SEND\nreceipt:r\ndestination:/topic/a\ncontent-length:65537\n\n');
  await assertRefused(raw, { message: /more than 65536 bytes/, code: TOO_BIG, receipt: 'r' });
});

test('a WebSocket message longer than any frame may be is refused', async (t) => {
  const raw = await Raw.connect(t, node.url);
  raw.send(frame('SEND', { destination: '/topic/a' }, 'x'.repeat(1024 * 1024)));
  await assertRefused(raw, { message: /bytes/, code: TOO_BIG });
});

test('a header longer than 8 KiB is refused', async (t) => {
  const raw = await Raw.connect(t, node.url);
  raw.send(send('/topic/a', { long: 'x'.repeat(8 * 1024) }));
  await assertRefused(raw, { message: /header line of more than 8192 bytes/, code: TOO_BIG, receipt: 'r' });
});

test('more than 100 headers are refused', async (t) => {
  const raw = await Raw.connect(t, node.url);
  raw.send(send('/topic/a', Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`h${n}`, n]))));
  await assertRefused(raw, { message: /more than 100 headers/, code: TOO_BIG, receipt: 'r' });
});

test('a text message that is not UTF-8 is refused', async (t) => {
  const raw = await Raw.connect(t, node.url);
  const bytes = Buffer.concat([Buffer.from('SEND\ndestination:/topic/a\n\n'), Buffer.from([0xc3, 0x28, 0])]);
  raw.send(bytes, { binary: false });
  await assertRefused(raw, { message: /not valid UTF-8/i, code: INVALID_TEXT });
});

test('what a client did before its mistake takes effect', async (t) => {
  const destination = `/topic/${unique('before')}`;
  const receiver = await Session.connect(t, node.url);
  const messages = await receiver.subscribe(destination);
  const raw = await Raw.connect(t, node.url);
  raw.send(frame('SEND', { destination }, 'in good order') + frame('HELLO'));
  assert.equal((await messages.item(0)).body, 'in good order');
  await assertRefused(raw, { message: /unknown command/, code: PROTOCOL });
});

test('a stock client is told what was wrong, too', async (t) => {
  const session = await Session.connect(t, node.url);
  session.client.subscribe('/topic/a..b', () => {}, { receipt: 'mine' });
  const { headers, body } = await session.errors.item(0);
  assert.match(headers.message, /empty word/);
  assert.equal(headers['receipt-id'], 'mine');
  assert.match(body, /empty word/);
  assert.equal((await session.closed.item(0)).code, PROTOCOL);
});
