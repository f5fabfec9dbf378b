// Durable subscriptions to topics: what comes while nobody is there is kept.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bodies, unique } from '../clients.mjs';

/** Over RabbitMQ, at any `place`. */
export function durable(place) {
  const kept = (id, headers) => ({ id, durable: 'true', 'auto-delete': 'false', ...headers });

  /** A topic, and the id of a subscription to it whose client has gone. */
  async function away(t) {
    const [topic, id] = [`/topic/${unique('durable')}`, unique('id')];
    const session = await place.connect(t);
    await session.subscribe(topic, kept(id));
    await session.client.deactivate();
    return { topic, id, sender: await place.connect(t, 1) };
  }

  test('what comes meanwhile is there for whoever comes back, on another node too', async (t) => {
    const { topic, id, sender } = await away(t);
    for (const body of ['a', 'b']) await sender.publish(topic, body);
    const messages = await (await place.connect(t, 1)).subscribe(topic, kept(id));
    await sender.publish(topic, 'c');
    await messages.item(2);
    assert.deepEqual(bodies(messages), ['a', 'b', 'c']);
    assert.equal(messages[0].headers.destination, topic);
  });

  test('UNSUBSCRIBE leaves it, and with durable:true deletes it', async (t) => {
    const { topic, id, sender } = await away(t);
    const session = await place.connect(t);
    const first = await session.subscribe(topic, kept(id));
    await session.receipted((receipt) => first.subscription.unsubscribe(receipt));
    await sender.publish(topic, 'kept');
    const second = await session.subscribe(topic, kept(id));
    assert.equal((await second.item(0)).body, 'kept');
    await session.receipted((receipt) => second.subscription.unsubscribe({ durable: 'true', ...receipt }));
    await sender.publish(topic, 'lost');
    const third = await session.subscribe(topic, kept(id));
    await sender.publish(topic, 'new');
    assert.equal((await third.item(0)).body, 'new');
  });

  test('consumers of one id compete, on every node', async (t) => {
    const { topic, id, sender } = await away(t);
    const sessions = [await place.connect(t), await place.connect(t, 1)];
    const work = kept(id, { ack: 'client-individual', 'prefetch-count': '1' });
    const logs = [await sessions[0].subscribe(topic, work), await sessions[1].subscribe(topic, work)];
    for (const body of ['a', 'b']) await sender.publish(topic, body);
    await Promise.all(logs.map((messages) => messages.item(0)));
    assert.deepEqual([logs[0][0].body, logs[1][0].body].sort(), ['a', 'b']);
    sessions[0].break();
    logs[1][0].ack();
    const again = await logs[1].item(1, 'what the other one had');
    assert.deepEqual([again.body, again.headers.redelivered], [logs[0][0].body, 'true']);
  });
}
