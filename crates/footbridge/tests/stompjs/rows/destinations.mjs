// The ways to name a queue, and `reply-to`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bodies, unique } from '../clients.mjs';
import { Log } from '../node.mjs';

/** How queues are named at any `place`. */
export function destinations(place) {
  test('a bare name is a queue', async (t) => {
    const name = unique('bare');
    const [one, two] = [await place.connect(t), await place.connect(t, 1)];
    const bare = await one.subscribe(name);
    await two.publish(`/queue/${name}`, 'to the queue');
    const message = await bare.item(0);
    assert.deepEqual([message.body, message.headers.destination], ['to the queue', name]);
    await one.receipted((receipt) => bare.subscription.unsubscribe(receipt));
    const queue = await two.subscribe(`/queue/${name}`);
    await one.publish(name, 'to the bare name');
    assert.equal((await queue.item(0)).body, 'to the bare name');
  });

  test('/amq/queue/ is a queue that is there', async (t) => {
    const name = unique('there');
    const [one, two] = [await place.connect(t), await place.connect(t, 1)];
    await one.publish(`/queue/${name}`, 'kept');
    const messages = await two.subscribe(`/amq/queue/${name}`);
    await one.publish(`/amq/queue/${name}`, 'sent');
    await messages.item(1);
    assert.deepEqual(bodies(messages), ['kept', 'sent']);
  });

  test('what is sent after the receipt of SUBSCRIBE is not missed, on no node', async (t) => {
    const [receiver, sender] = [await place.connect(t), await place.connect(t, 1)];
    for (let n = 0; n < 20; n += 1) {
      const destination = `/topic/${unique('next')}`;
      const messages = await receiver.subscribe(destination);
      sender.client.publish({ destination, body: String(n) });
      assert.equal((await messages.item(0)).body, String(n));
    }
  });

  test('requests of one client are answered by another, on another node', async (t) => {
    const queue = `/queue/${unique('requests')}`;
    const [asking, answering] = [await place.connect(t), await place.connect(t, 1)];
    const requests = await answering.subscribe(queue);
    requests.each(({ body, headers }) => {
      assert.match(headers['reply-to'], /^\/reply-queue\/./);
      answering.client.publish({
        destination: headers['reply-to'], body: `answer to ${body}`, headers: { 'correlation-id': headers['correlation-id'] },
      });
    });
    const answers = unhandled(asking);
    for (const [n, question] of ['one', 'two', 'three'].entries()) {
      await asking.publish(queue, question, { 'reply-to': '/temp-queue/answers', 'correlation-id': question });
      const { body, headers } = await answers.item(n, 'an answer');
      assert.equal(body, `answer to ${question}`);
      assert.deepEqual([headers.subscription, headers['correlation-id']], ['/temp-queue/answers', question]);
    }
  });
}

/** The messages for which the client has no subscription, as those to its temp-queues. */
function unhandled(session) {
  const messages = new Log();
  session.client.onUnhandledMessage = (message) => messages.add(message);
  return messages;
}
