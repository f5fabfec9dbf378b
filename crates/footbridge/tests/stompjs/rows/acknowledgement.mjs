// ACK and NACK as every version has them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bodies, unique } from '../clients.mjs';

/** What becomes of messages at any `place`. */
export function acknowledgement(place) {
  /** A client that got those messages from a queue. */
  async function holding(t, ack, contents) {
    const queue = `/queue/${unique('held')}`;
    const session = await place.connect(t);
    const messages = await session.subscribe(queue, { ack });
    const sender = await place.connect(t, 1);
    for (const body of contents) await sender.publish(queue, body);
    await messages.item(contents.length - 1);
    assert.deepEqual(bodies(messages), contents);
    assert.ok(messages.every(({ headers }) => headers.redelivered === undefined));
    return { queue, session, messages };
  }

  /** That those are the messages in a queue, all given back. */
  async function assertLeft(t, queue, contents) {
    const session = await place.connect(t, 1);
    const messages = await session.subscribe(queue);
    await messages.until((log) => log.length >= contents.length, `what is left: ${contents}`);
    await session.publish(queue, 'the end');
    await messages.item(contents.length);
    assert.deepEqual(bodies(messages), [...contents, 'the end']);
    assert.ok(messages.slice(0, -1).every(({ headers }) => headers.redelivered === 'true'));
  }

  for (const [ack, left] of [['auto', []], ['client', ['c']], ['client-individual', ['a', 'c']]]) {
    for (const end of ['DISCONNECT', 'a cut']) {
      test(`ack:${ack} before ${end} leaves ${left.length} of three`, async (t) => {
        const { queue, session, messages } = await holding(t, ack, ['a', 'b', 'c']);
        if (ack !== 'auto') await session.receipted((receipt) => messages[1].ack(receipt));
        // Whatever it was sent is written and settled by the next receipt.
        await session.publish(`/topic/${unique('fence')}`, 'x');
        if (end === 'DISCONNECT') await session.client.deactivate();
        else session.break();
        await assertLeft(t, queue, left);
      });
    }
  }

  test('NACK gives back, or drops with requeue:false', async (t) => {
    const { queue, session, messages } = await holding(t, 'client-individual', ['a', 'b']);
    await session.receipted((receipt) => messages[0].nack(receipt));
    const again = await messages.item(2, 'what was given back');
    assert.deepEqual([again.body, again.headers.redelivered], ['a', 'true']);
    await session.receipted((receipt) => messages[1].nack({ requeue: 'false', ...receipt }));
    await session.client.deactivate();
    await assertLeft(t, queue, ['a']);
  });

  test('ABORT undoes an ACK, COMMIT does it', async (t) => {
    const { queue, session, messages } = await holding(t, 'client-individual', ['a', 'b']);
    const [aborted, committed] = [session.client.begin(), session.client.begin()];
    messages[0].ack({ transaction: aborted.id });
    messages[1].ack({ transaction: committed.id });
    session.client.publish({ destination: queue, body: 'never', headers: { transaction: aborted.id } });
    aborted.abort();
    committed.commit();
    await session.publish(`/topic/${unique('fence')}`, 'x');
    session.break();
    await assertLeft(t, queue, ['a']);
  });

  test('one who does not acknowledge holds up nobody', async (t) => {
    const { queue } = await holding(t, 'client', ['held']);
    const [silent, lively] = [await place.connect(t), await place.connect(t)];
    const stuck = await silent.subscribe(queue, { ack: 'client', 'prefetch-count': '3' });
    const contents = Array.from({ length: 50 }, (_, n) => String(n));
    const sender = await place.connect(t, 1);
    const topic = `/topic/${unique('lively')}`;
    const heard = await lively.subscribe(topic);
    for (const body of contents) await sender.publish(topic, body);
    await heard.item(49);
    assert.deepEqual(bodies(heard), contents);
    const other = `/queue/${unique('lively')}`;
    const taken = await lively.subscribe(other);
    for (const body of contents) await sender.publish(other, body);
    await taken.item(49);
    assert.deepEqual(bodies(taken), contents);
    assert.equal(stuck.length, 0);
  });
}
