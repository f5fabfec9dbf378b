// /exchange/<name>/<key>: exchanges of every type that an AMQP application declared.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bodies, unique } from '../clients.mjs';

/** Over RabbitMQ, at any `place`. */
export function exchanges(place) {
  /** An exchange that ends with the test. */
  async function declared(t, type) {
    const name = unique(type);
    await place.channel.assertExchange(name, type, { durable: false });
    t.after(() => place.channel.deleteExchange(name));
    return name;
  }

  /** What is subscribed to, by whom it is sent, and the bodies that come. */
  const TYPES = {
    direct: { subscribed: 'one', sent: ['one', 'other', 'one.more'], come: ['one'] },
    topic: { subscribed: 'one.#', sent: ['one', 'other', 'one.more'], come: ['one', 'one.more'] },
    fanout: { subscribed: undefined, sent: ['one', 'other', 'one.more'], come: ['one', 'other', 'one.more'] },
  };
  for (const [type, { subscribed, sent, come }] of Object.entries(TYPES)) {
    test(`a ${type} exchange goes by its rule, whoever publishes, on every node`, async (t) => {
      const exchange = await declared(t, type);
      const pattern = subscribed === undefined ? `/exchange/${exchange}` : `/exchange/${exchange}/${subscribed}`;
      const [one, two] = [await place.connect(t), await place.connect(t, 1)];
      const logs = [
        await one.subscribe(pattern),
        await one.subscribe(pattern, { ack: 'client-individual' }),
        await two.subscribe(pattern),
      ];
      for (const key of sent) await two.publish(`/exchange/${exchange}/${key}`, key, { kind: 'mine' });
      for (const key of sent) place.channel.publish(exchange, key, Buffer.from(`AMQP: ${key}`));
      await place.channel.waitForConfirms();
      for (const messages of logs) {
        await messages.item(2 * come.length - 1);
        assert.deepEqual(bodies(messages), [...come, ...come.map((key) => `AMQP: ${key}`)]);
        assert.equal(messages[0].headers.kind, 'mine');
        assert.equal(messages[0].headers.destination, `/exchange/${exchange}/${come[0]}`);
      }
    });
  }

  test('what is sent to an exchange reaches the queues that others bound', async (t) => {
    const exchange = await declared(t, 'direct');
    const { queue } = await place.channel.assertQueue('', { autoDelete: true });
    await place.channel.bindQueue(queue, exchange, 'key');
    const session = await place.connect(t);
    await session.publish(`/exchange/${exchange}/key`, 'confirmed', { 'correlation-id': 'c' });
    // The receipt came after the confirm, so it is there.
    const { content, properties } = await place.channel.get(queue, { noAck: true });
    assert.deepEqual([content.toString(), properties.correlationId], ['confirmed', 'c']);
  });

  test('the receipt of a SEND comes when RabbitMQ has the message', async (t) => {
    const name = unique('confirmed');
    const session = await place.connect(t);
    for (let n = 0; n < 10; n += 1) {
      await session.publish(`/queue/${name}`, String(n));
      const { content } = await place.channel.get(name, { noAck: true });
      assert.equal(content.toString(), String(n));
    }
  });
}
