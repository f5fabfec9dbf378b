// Headers of SUBSCRIBE and SEND that become the arguments of a queue or a consumer.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bodies, unique } from '../clients.mjs';

/** Over RabbitMQ, at any `place`. */
export function queueArguments(place) {
  /** A queue that holds those messages, declared by whoever sends them. */
  async function filled(t, args, contents) {
    const queue = `/queue/${unique('arguments')}`;
    const sender = await place.connect(t, 1);
    for (const [body, headers] of contents) await sender.publish(queue, body, { ...args, ...headers });
    return queue;
  }

  test('what expires, is too much or is refused is a dead letter', async (t) => {
    const dead = unique('dead');
    const session = await place.connect(t);
    const letters = await session.subscribe(`/queue/${dead}`);
    const args = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead };
    await filled(t, { ...args, 'x-message-ttl': '1' }, [['expired']]);
    assert.equal((await letters.item(0)).body, 'expired');
    await filled(t, { ...args, 'x-max-length': '1' }, [['too much'], ['fits']]);
    assert.equal((await letters.item(1)).body, 'too much');
    const queue = await filled(t, args, [['refused']]);
    const messages = await session.subscribe(queue, { ...args, ack: 'client-individual' });
    (await messages.item(0)).nack({ requeue: 'false' });
    assert.equal((await letters.item(2)).body, 'refused');
  });

  test('x-max-length keeps the newest', async (t) => {
    const args = { 'x-max-length': '2' };
    const queue = await filled(t, args, [['a'], ['b'], ['c']]);
    const session = await place.connect(t);
    const messages = await session.subscribe(queue, args);
    await messages.item(1);
    assert.deepEqual(bodies(messages), ['b', 'c']);
  });

  test('x-overflow:reject-publish refuses the newest, by ERROR in place of RECEIPT', async (t) => {
    const args = { 'x-max-length': '1', 'x-overflow': 'reject-publish' };
    const queue = await filled(t, args, [['a']]);
    const sender = await place.connect(t);
    const { message } = await sender.refused((receipt) => {
      sender.client.publish({ destination: queue, body: 'b', headers: { ...args, ...receipt } });
    });
    assert.match(message, /the broker refused the message|the broker has no room/);
  });

  test('x-max-priority brings the most urgent first', async (t) => {
    const args = { 'x-max-priority': '5' };
    const queue = await filled(t, args, ['1', '5', '3', '5'].map((priority) => [priority, { priority }]));
    const session = await place.connect(t);
    const messages = await session.subscribe(queue, args);
    await messages.item(3);
    assert.deepEqual(bodies(messages), ['5', '5', '3', '1']);
  });

  test('a quorum queue gives again what is refused', async (t) => {
    const args = { 'x-queue-type': 'quorum' };
    const queue = await filled(t, args, [['a']]);
    const session = await place.connect(t);
    const messages = await session.subscribe(queue, { ...args, ack: 'client-individual' });
    (await messages.item(0)).nack();
    const again = await messages.item(1);
    assert.deepEqual([again.body, again.headers.redelivered], ['a', 'true']);
    await session.receipted((receipt) => again.ack(receipt));
  });

  test('a stream is read from its begin and from a number, by everybody, and goes on', async (t) => {
    const args = { 'x-queue-type': 'stream' };
    const queue = await filled(t, args, [['a'], ['b'], ['c'], ['d']]);
    for (const [offset, contents] of [['first', ['a', 'b', 'c', 'd']], ['offset=2', ['c', 'd']], ['offset=3', ['d']]]) {
      const session = await place.connect(t);
      const messages = await session.subscribe(queue, {
        ...args, ack: 'client-individual', 'prefetch-count': '10', 'x-stream-offset': offset,
      });
      await messages.item(contents.length - 1);
      assert.deepEqual(bodies(messages), contents);
    }
    const [old, next] = [await place.connect(t), await place.connect(t, 1)];
    const all = await old.subscribe(queue, { ...args, ack: 'client', 'x-stream-offset': 'first' });
    const news = await next.subscribe(queue, { ...args, ack: 'client', 'x-stream-offset': 'next' });
    await old.publish(queue, 'e', args);
    await all.item(4);
    assert.deepEqual([bodies(all), (await news.item(0)).body], [['a', 'b', 'c', 'd', 'e'], 'e']);
  });
}
