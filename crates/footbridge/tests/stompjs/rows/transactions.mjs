// Transactions: all of it at COMMIT, or nothing.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Session, bodies, unique } from '../clients.mjs';

/** What holds of transactions on any `node`. */
export function transactions(node) {
  test('what a transaction sends arrives at COMMIT, in order, and not before', async (t) => {
    const destination = `/topic/${unique('commit')}`;
    const session = await Session.connect(t, node.url);
    const messages = await session.subscribe(destination);
    const { id, commit } = session.client.begin();
    for (const body of ['one', 'two']) {
      session.client.publish({ destination, body, headers: { transaction: id } });
    }
    await session.publish(destination, 'meanwhile');
    await messages.item(0);
    commit();
    await messages.item(2);
    assert.deepEqual(bodies(messages), ['meanwhile', 'one', 'two']);
    assert.equal(messages[1].headers.transaction, undefined);
  });

  test('what an aborted transaction sends never arrives', async (t) => {
    const destination = `/topic/${unique('abort')}`;
    const session = await Session.connect(t, node.url);
    const messages = await session.subscribe(destination);
    const { id, abort } = session.client.begin();
    session.client.publish({ destination, body: 'never', headers: { transaction: id } });
    abort();
    await session.publish(destination, 'after');
    await messages.item(0);
    assert.deepEqual(bodies(messages), ['after']);
  });

  test('a transaction that its session leaves open is aborted', async (t) => {
    const destination = `/topic/${unique('left')}`;
    const receiver = await Session.connect(t, node.url);
    const messages = await receiver.subscribe(destination);
    const session = await Session.connect(t, node.url);
    const { id } = session.client.begin();
    session.client.publish({ destination, body: 'never', headers: { transaction: id } });
    await session.client.deactivate();
    await receiver.publish(destination, 'after');
    await messages.item(0);
    assert.deepEqual(bodies(messages), ['after']);
  });

  test('transactions of one session do not mix', async (t) => {
    const destination = `/topic/${unique('two')}`;
    const session = await Session.connect(t, node.url);
    const messages = await session.subscribe(destination);
    const [first, second] = [session.client.begin(), session.client.begin()];
    session.client.publish({ destination, body: 'first', headers: { transaction: first.id } });
    session.client.publish({ destination, body: 'second', headers: { transaction: second.id } });
    second.commit();
    first.abort();
    await session.publish(destination, 'after');
    await messages.item(1);
    assert.deepEqual(bodies(messages), ['second', 'after']);
  });

  test('a SEND in a transaction gets its receipt at COMMIT', async (t) => {
    const destination = `/topic/${unique('receipt')}`;
    const session = await Session.connect(t, node.url);
    const { id, commit } = session.client.begin();
    let committed = false;
    const receipted = session.receipted((receipt) => {
      session.client.publish({ destination, body: 'x', headers: { transaction: id, ...receipt } });
    }).then(() => assert.ok(committed, 'a receipt before COMMIT'));
    await session.publish(destination, 'fence');
    committed = true;
    commit();
    await receipted;
  });

  for (const [how, left] of [['commit', ['m1']], ['abort', ['m0', 'm1']]]) {
    test(`ACKs in a transaction ${how === 'commit' ? 'take effect at COMMIT' : 'are undone by ABORT'}`, async (t) => {
      const queue = `/queue/${unique(how)}`;
      const session = await Session.connect(t, node.url);
      for (const body of ['m0', 'm1']) await session.publish(queue, body);
      const messages = await session.subscribe(queue, { ack: 'client-individual' });
      await messages.item(1);
      const transaction = session.client.begin();
      messages[0].ack({ transaction: transaction.id });
      transaction[how]();
      await session.publish(`/topic/${unique('fence')}`, 'x');
      session.break();
      const other = await Session.connect(t, node.url);
      const again = await other.subscribe(queue);
      await other.publish(queue, 'fence');
      await again.until((log) => bodies(log).includes('fence'), 'the fence');
      assert.deepEqual(bodies(again), [...left, 'fence']);
    });
  }
}
