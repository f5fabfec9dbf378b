// Queues: competing consumers, acknowledgement, and what goes back.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Versions } from '@stomp/stompjs';
import { Raw, Session, bodies, frame, unique } from '../clients.mjs';
import { Log } from '../node.mjs';

/** What holds of queues on any `node`. */
export function queues(node) {
  const names = (n) => Array.from({ length: n }, (_, i) => `m${i}`);

  async function fill(t, queue, messages) {
    const sender = await Session.connect(t, node.url);
    for (const body of messages) await sender.publish(queue, body);
  }

  test('competing consumers share a queue, each message once', async (t) => {
    const queue = `/queue/${unique('shared')}`;
    const consumers = await Promise.all([1, 2, 3].map(() => Session.connect(t, node.url)));
    const logs = await Promise.all(consumers.map((consumer) => consumer.subscribe(queue)));
    const all = new Log();
    for (const log of logs) log.each(({ body }) => all.add(body));
    await fill(t, queue, names(90));
    await all.until((log) => log.length >= 90, 'all 90 messages');
    assert.deepEqual([...all].sort(), names(90).sort());
    for (const log of logs) assert.ok(log.length > 0, 'each has a share');
  });

  test('a queue keeps messages, in order, while nobody is there', async (t) => {
    const queue = `/queue/${unique('kept')}`;
    await fill(t, queue, names(20));
    const consumer = await Session.connect(t, node.url);
    const messages = await consumer.subscribe(queue);
    await messages.until((log) => log.length >= 20, '20 messages');
    assert.deepEqual(bodies(messages), names(20));
    assert.equal(messages[0].headers.destination, queue);
    assert.equal(messages[0].headers.redelivered, undefined);
  });

  test('with ack:auto what was received does not come again', async (t) => {
    const queue = `/queue/${unique('auto')}`;
    await fill(t, queue, names(3));
    const first = await Session.connect(t, node.url);
    const messages = await first.subscribe(queue);
    await messages.item(2);
    // What the consumer says after them shows that they are written, hence settled.
    await first.publish(`/topic/${unique('fence')}`, 'x');
    first.break();
    const second = await Session.connect(t, node.url);
    const again = await second.subscribe(queue);
    await second.publish(queue, 'fence');
    await again.item(0);
    assert.deepEqual(bodies(again), ['fence']);
  });

  test('with ack:client-individual an ACK settles its message only', async (t) => {
    const queue = `/queue/${unique('individual')}`;
    await fill(t, queue, names(3));
    const first = await Session.connect(t, node.url);
    const messages = await first.subscribe(queue, { ack: 'client-individual' });
    await messages.item(2);
    await first.receipted((receipt) => messages[1].ack(receipt));
    first.break();
    const second = await Session.connect(t, node.url);
    const again = await second.subscribe(queue);
    await second.publish(queue, 'fence');
    await again.until((log) => bodies(log).includes('fence'), 'the fence');
    assert.deepEqual(bodies(again), ['m0', 'm2', 'fence']);
    assert.deepEqual(again.map(({ headers }) => headers.redelivered), ['true', 'true', undefined]);
  });

  test('with ack:client an ACK settles all messages before it', async (t) => {
    const queue = `/queue/${unique('cumulative')}`;
    await fill(t, queue, names(4));
    const first = await Session.connect(t, node.url);
    const messages = await first.subscribe(queue, { ack: 'client' });
    await messages.item(3);
    await first.receipted((receipt) => messages[2].ack(receipt));
    first.break();
    const second = await Session.connect(t, node.url);
    const again = await second.subscribe(queue);
    await second.publish(queue, 'fence');
    await again.until((log) => bodies(log).includes('fence'), 'the fence');
    assert.deepEqual(bodies(again), ['m3', 'fence']);
  });

  test('a cumulative ACK stays within its subscription', async (t) => {
    const [one, two] = [`/queue/${unique('one')}`, `/queue/${unique('two')}`];
    await fill(t, one, ['in one']);
    await fill(t, two, ['in two']);
    const first = await Session.connect(t, node.url);
    const inOne = await first.subscribe(one, { ack: 'client' });
    await inOne.item(0);
    const inTwo = await first.subscribe(two, { ack: 'client' });
    const last = await inTwo.item(0);
    await first.receipted((receipt) => last.ack(receipt));
    first.break();
    const second = await Session.connect(t, node.url);
    assert.equal((await (await second.subscribe(one)).item(0)).body, 'in one');
  });

  for (const version of ['1.0', '1.1', '1.2']) {
    test(`a client of version ${version} acknowledges what it received`, async (t) => {
      const queue = `/queue/${unique('version')}`;
      await fill(t, queue, names(2));
      const stompVersions = new Versions([version]);
      const first = await Session.connect(t, node.url, { stompVersions });
      const messages = await first.subscribe(queue, { ack: 'client-individual' });
      await messages.item(1);
      await first.receipted((receipt) => messages[0].ack(receipt));
      first.break();
      const second = await Session.connect(t, node.url, { stompVersions });
      const again = await second.subscribe(queue);
      assert.equal((await again.item(0)).body, 'm1');
    });
  }

  test('a NACK gives a message to another consumer, marked redelivered', async (t) => {
    const queue = `/queue/${unique('nack')}`;
    const refusing = await Session.connect(t, node.url);
    const refused = await refusing.subscribe(queue, { ack: 'client-individual', 'prefetch-count': '1' });
    await fill(t, queue, ['unwanted']);
    await refused.item(0);
    const willing = await Session.connect(t, node.url);
    const accepted = await willing.subscribe(queue, { ack: 'client-individual' });
    // Whatever comes to the refusing consumer is refused again, until the other one gets it.
    refused.each((message) => message.nack());
    const message = await accepted.item(0);
    assert.equal(message.body, 'unwanted');
    assert.equal(message.headers.redelivered, 'true');
    await willing.receipted((receipt) => message.ack(receipt));
  });

  test('a NACK with requeue:false drops the message', async (t) => {
    const queue = `/queue/${unique('dropped')}`;
    await fill(t, queue, ['bad', 'good']);
    const session = await Session.connect(t, node.url);
    const messages = await session.subscribe(queue, { ack: 'client-individual' });
    const bad = await messages.item(0);
    await session.receipted((receipt) => bad.nack({ requeue: 'false', ...receipt }));
    session.break();
    const again = await (await Session.connect(t, node.url)).subscribe(queue);
    assert.equal((await again.item(0)).body, 'good');
  });

  test('prefetch-count bounds what one consumer holds', async (t) => {
    const queue = `/queue/${unique('prefetch')}`;
    const consumers = await Promise.all([1, 2].map(() => Session.connect(t, node.url)));
    const bounded = { ack: 'client-individual', 'prefetch-count': '1' };
    const first = await consumers[0].subscribe(queue, bounded);
    await fill(t, queue, names(2));
    await first.item(0);
    // The second message is still in the queue: the second consumer gets it.
    const second = await consumers[1].subscribe(queue, bounded);
    assert.equal((await second.item(0)).body, 'm1');
    await fill(t, queue, ['m2']);
    await consumers[0].receipted((receipt) => first[0].ack(receipt));
    assert.equal((await first.item(1)).body, 'm2');
    assert.deepEqual([first.length, second.length], [2, 1]);
  });

  test('what a killed client did not acknowledge goes to another, in order', async (t) => {
    const queue = `/queue/${unique('killed')}`;
    const first = await Session.connect(t, node.url);
    const held = await first.subscribe(queue, { ack: 'client' });
    await fill(t, queue, names(10));
    await held.item(9);
    const second = await Session.connect(t, node.url);
    const messages = await second.subscribe(queue);
    first.break();
    await messages.until((log) => log.length >= 10, '10 messages');
    assert.deepEqual(bodies(messages), names(10));
    for (const { headers } of messages) assert.equal(headers.redelivered, 'true');
  });

  test('what is not acknowledged goes back at UNSUBSCRIBE', async (t) => {
    const queue = `/queue/${unique('left')}`;
    await fill(t, queue, ['left']);
    const session = await Session.connect(t, node.url);
    const first = await session.subscribe(queue, { ack: 'client-individual' });
    await first.item(0);
    await session.receipted((receipt) => first.subscription.unsubscribe(receipt));
    const second = await session.subscribe(queue);
    assert.equal((await second.item(0)).headers.redelivered, 'true');
  });

  test('ACK and NACK get the receipts they ask for', async (t) => {
    const queue = `/queue/${unique('receipts')}`;
    await fill(t, queue, names(2));
    const session = await Session.connect(t, node.url);
    const messages = await session.subscribe(queue, { ack: 'client-individual' });
    await messages.item(1);
    await session.receipted((receipt) => messages[0].ack(receipt));
    await session.receipted((receipt) => messages[1].nack({ requeue: 'false', ...receipt }));
  });

  test('an ACK token of another session is refused and settles nothing', async (t) => {
    const queue = `/queue/${unique('foreign')}`;
    await fill(t, queue, ['mine']);
    const owner = await Session.connect(t, node.url);
    const messages = await owner.subscribe(queue, { ack: 'client-individual' });
    const { headers } = await messages.item(0);
    const stranger = await Raw.connect(t, node.url);
    stranger.send(frame('ACK', { id: headers.ack, receipt: 'r' }));
    const error = await stranger.received('ERROR');
    assert.match(error.headers.message, /nothing to acknowledge/);
    assert.equal(error.headers['receipt-id'], 'r');
    assert.equal((await stranger.closed.item(0)).code, 1002);
    owner.break();
    const again = await (await Session.connect(t, node.url)).subscribe(queue);
    assert.equal((await again.item(0)).body, 'mine');
  });
}
