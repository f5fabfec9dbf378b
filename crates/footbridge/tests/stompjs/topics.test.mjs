// Topics: who gets a message, how often, and under which destination.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Session, bodies, unique } from './clients.mjs';
import { Node } from './node.mjs';

let node;
before(async () => {
  node = await Node.start();
});
after(() => node.stop());

test('a message reaches every subscriber, the sender among them', async (t) => {
  const destination = `/topic/${unique('all')}`;
  const sessions = await Promise.all([1, 2, 3].map(() => Session.connect(t, node.url)));
  const logs = await Promise.all(sessions.map((session) => session.subscribe(destination)));
  await sessions[0].publish(destination, 'to all');
  for (const messages of logs) {
    const message = await messages.item(0);
    assert.equal(message.body, 'to all');
    assert.equal(message.headers.destination, destination);
    assert.equal(message.headers.subscription, messages.subscription.id);
    assert.ok(message.headers['message-id']);
  }
  assert.equal(new Set(logs.map((messages) => messages[0].headers['message-id'])).size, 1);
});

test('a message reaches nobody who subscribed to another topic', async (t) => {
  const word = unique('near');
  const session = await Session.connect(t, node.url);
  const near = [`${word}.a`, `${word}.a.b.c`, `${word}`, `${word}.A.b`, `${word}.*.c`];
  const others = await Promise.all(near.map((topic) => session.subscribe(`/topic/${topic}`)));
  const messages = await session.subscribe(`/topic/${word}.a.b`);
  await session.publish(`/topic/${word}.a.b`, 'x');
  await messages.item(0);
  // Each of the others gets its own fence, and nothing before it.
  for (const [n, topic] of near.entries()) await session.publish(`/topic/${topic.replace('*', 'z')}`, String(n));
  for (const [n, log] of others.entries()) {
    await log.item(0);
    assert.deepEqual(bodies(log), [String(n)]);
  }
});

test('messages of one sender keep their order', async (t) => {
  const destination = `/topic/${unique('order')}`;
  const receiver = await Session.connect(t, node.url);
  const messages = await receiver.subscribe(destination);
  const sender = await Session.connect(t, node.url);
  const sent = Array.from({ length: 500 }, (_, n) => String(n));
  for (const body of sent) sender.client.publish({ destination, body });
  await messages.until((log) => log.length >= sent.length, '500 messages');
  assert.deepEqual(bodies(messages), sent);
});

test('dots and slashes spell the same topic, and each subscriber sees its own spelling', async (t) => {
  const word = unique('spelling');
  const [dots, slashes] = [`/topic/${word}.b`, `/topic/${word}/b`];
  const session = await Session.connect(t, node.url);
  const byDots = await session.subscribe(dots);
  const bySlashes = await session.subscribe(slashes);
  await session.publish(dots, 'with a dot');
  await session.publish(slashes, 'with a slash');
  for (const [messages, destination] of [[byDots, dots], [bySlashes, slashes]]) {
    await messages.until((log) => log.length >= 2, 'both messages');
    assert.deepEqual(bodies(messages), ['with a dot', 'with a slash']);
    assert.deepEqual(messages.map(({ headers }) => headers.destination), [destination, destination]);
  }
});

test('a dot after a slash is a letter', async (t) => {
  const word = unique('letter');
  const session = await Session.connect(t, node.url);
  const literal = await session.subscribe(`/topic/${word}/john.doe`);
  const words = await session.subscribe(`/topic/${word}/john/doe`);
  await session.publish(`/topic/${word}/john.doe`, 'two words');
  await session.publish(`/topic/${word}/john/doe`, 'three words');
  await literal.item(0);
  await words.item(0);
  assert.deepEqual([bodies(literal), bodies(words)], [['two words'], ['three words']]);
});

/** Patterns behind `/topic/<word>`, what they must match of SENT, and the destination shown. */
const SENT = ['.x', '.x.y', '.x.y.z', '/x', '/q/y'];
const PATTERNS = [
  { pattern: '.*', shown: ['.x', '.x'] },
  { pattern: '/*', shown: ['/x', '/x'] },
  { pattern: '.#', shown: ['.x', '.x.y', '.x.y.z', '.x', '.q.y'] },
  { pattern: '/#', shown: ['/x', '/x/y', '/x/y/z', '/x', '/q/y'] },
  { pattern: '/**', shown: ['/x', '/x/y', '/x/y/z', '/x', '/q/y'] },
  { pattern: '.*.y', shown: ['.x.y', '.q.y'] },
  { pattern: '/x/#', shown: ['/x', '/x/y', '/x/y/z', '/x'] },
  { pattern: '.#.z', shown: ['.x.y.z'] },
];
for (const { pattern, shown } of PATTERNS) {
  test(`the pattern ${pattern} gets what it matches, in its own separators`, async (t) => {
    const word = unique('pattern');
    const session = await Session.connect(t, node.url);
    const messages = await session.subscribe(`/topic/${word}${pattern}`);
    for (const path of SENT) await session.publish(`/topic/${word}${path}`, 'x');
    // One more that every pattern matches shows that nothing else is on its way.
    const last = pattern.replace('**', '#').replaceAll('*', 'x').replaceAll('#', 'x');
    await session.publish(`/topic/${word}${last}`, 'last');
    await messages.until((log) => log.some(({ body }) => body === 'last'), 'the last message');
    const received = messages.filter(({ body }) => body !== 'last');
    assert.deepEqual(received.map(({ headers }) => headers.destination), shown.map((path) => `/topic/${word}${path}`));
  });
}

test('several subscriptions of one session are told apart by their ids', async (t) => {
  const [red, blue] = [`/topic/${unique('red')}`, `/topic/${unique('blue')}`];
  const session = await Session.connect(t, node.url);
  const reds = await session.subscribe(red, { id: 'my-red' });
  const blues = await session.subscribe(blue, { id: 'my-blue' });
  await session.publish(red, 'r');
  await session.publish(blue, 'b');
  assert.equal((await reds.item(0)).headers.subscription, 'my-red');
  assert.equal((await blues.item(0)).headers.subscription, 'my-blue');
  assert.deepEqual([bodies(reds), bodies(blues)], [['r'], ['b']]);
});

test('two subscriptions to one topic get a message each', async (t) => {
  const destination = `/topic/${unique('twice')}`;
  const session = await Session.connect(t, node.url);
  const logs = [await session.subscribe(destination), await session.subscribe(destination)];
  await session.publish(destination, 'one');
  await session.publish(destination, 'two');
  for (const messages of logs) {
    await messages.until((log) => log.length >= 2, 'two messages');
    assert.deepEqual(bodies(messages), ['one', 'two']);
  }
});

test('UNSUBSCRIBE ends exactly one subscription', async (t) => {
  const destination = `/topic/${unique('ended')}`;
  const session = await Session.connect(t, node.url);
  const ended = await session.subscribe(destination);
  const kept = await session.subscribe(destination);
  await session.publish(destination, 'to both');
  await ended.item(0);
  const unhandled = [];
  session.client.onUnhandledMessage = (message) => unhandled.push(message.body);
  await session.receipted((receipt) => ended.subscription.unsubscribe(receipt));
  await session.publish(destination, 'to one');
  await session.publish(destination, 'fence');
  await kept.until((log) => log.length >= 3, 'three messages');
  assert.deepEqual(bodies(kept), ['to both', 'to one', 'fence']);
  assert.deepEqual(bodies(ended), ['to both']);
  assert.deepEqual(unhandled, []);
});

test('an id is free again after UNSUBSCRIBE', async (t) => {
  const destination = `/topic/${unique('again')}`;
  const session = await Session.connect(t, node.url);
  const first = await session.subscribe(destination, { id: 'mine' });
  await session.receipted((receipt) => first.subscription.unsubscribe(receipt));
  const second = await session.subscribe(destination, { id: 'mine' });
  await session.publish(destination, 'to the second');
  assert.equal((await second.item(0)).body, 'to the second');
});

test('topic messages may be acknowledged', async (t) => {
  const destination = `/topic/${unique('acked')}`;
  const session = await Session.connect(t, node.url);
  const messages = await session.subscribe(destination, { ack: 'client-individual' });
  await session.publish(destination, 'one');
  const message = await messages.item(0);
  await session.receipted((receipt) => message.ack(receipt));
  await session.publish(destination, 'two');
  await messages.item(1);
  assert.deepEqual([...session.errors], []);
});

for (const [what, act] of [
  ['SEND', (session, receipt) => session.client.publish({ destination: '/topic/receipts', body: 'x', headers: receipt })],
  ['SUBSCRIBE', (session, receipt) => session.client.subscribe('/topic/receipts', () => {}, { id: 'r', ...receipt })],
  ['UNSUBSCRIBE', (session, receipt) => session.client.unsubscribe('r', receipt)],
]) {
  test(`${what} gets the receipt it asks for`, async (t) => {
    const session = await Session.connect(t, node.url);
    if (what === 'UNSUBSCRIBE') await session.subscribe('/topic/receipts', { id: 'r' });
    const receipt = await session.receipted((header) => act(session, header));
    assert.match(receipt.headers['receipt-id'], /^receipt-/);
  });
}

test('after the receipt of SUBSCRIBE nothing is missed', async (t) => {
  const receiver = await Session.connect(t, node.url);
  const sender = await Session.connect(t, node.url);
  for (let n = 0; n < 50; n += 1) {
    const destination = `/topic/${unique('at-once')}`;
    const messages = await receiver.subscribe(destination);
    sender.client.publish({ destination, body: 'x' });
    await messages.item(0, `the message of round ${n}`);
  }
});
