// What a client asks for and does not get: an ERROR that says why and names the frame, a close code, and
// nobody else disturbed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bodies, unique } from '../clients.mjs';

const LONG = 'n'.repeat(256);
const PROTOCOL = 1002;
const TOO_BIG = 1009;
const UNAVAILABLE = 1013;
const LIMIT = 4429;

/** A SUBSCRIBE, and a SEND. */
const subscribe = (destination, headers) => (session, receipt) => {
  session.client.subscribe(destination, () => {}, { ...headers, ...receipt });
};
const send = (destination, headers, body = 'x') => (session, receipt) => {
  session.client.publish({ destination, body, headers: { ...headers, ...receipt } });
};

/** Has every one of `frames` sent, each by a client of its own: what it is, how, the words, the code. */
function each(place, frames) {
  for (const [what, act, words, code = PROTOCOL] of frames) {
    test(`${what} is refused`, async (t) => {
      const topic = `/topic/${unique('witness')}`;
      const witness = await place.connect(t);
      const heard = await witness.subscribe(topic);
      const session = await place.connect(t);
      const refused = await session.refused((receipt) => act(session, receipt));
      assert.match(refused.message, words);
      assert.equal(refused.code, code);
      await witness.publish(topic, 'still here');
      await heard.item(0);
      assert.deepEqual([bodies(heard), witness.closed.length], [['still here'], 0]);
    });
  }
}

/** At any `place`. */
export function refusals(place) {
  each(place, [
    ['an ACK of nothing', ({ client }, receipt) => client.ack('0.0.nothing', 'sub', receipt), /nothing to acknowledge under "0\.0\.nothing"/],
    ['a NACK of nothing', ({ client }, receipt) => client.nack('0.0.nothing', 'sub', receipt), /nothing to acknowledge under "0\.0\.nothing"/],
    ['a SEND in an unknown transaction', send('/topic/a', { transaction: 't' }), /SEND names the transaction "t", which is not open/],
    ['a hundred and first subscription', (session, receipt) => {
      for (let n = 0; n < 100; n += 1) session.client.subscribe('/topic/hundred', () => {});
      subscribe('/topic/hundred', {})(session, receipt);
    }, /more than 100 subscriptions in one session/, LIMIT],
    ['a missing queue in SUBSCRIBE', subscribe('/amq/queue/no-such'), /^NOT_FOUND - no queue 'no-such'/],
    ['a missing queue in SEND', send('/amq/queue/no-such'), /no queue took the message/, UNAVAILABLE],
    ['a long name in SUBSCRIBE', subscribe(`/queue/${LONG}`), /is too long: its name has 256 bytes and may have 255/],
    ['a long name in SEND', send(`/topic/${LONG}`), /is too long: its name has 256 bytes and may have 255/],
    ['a message beyond the limit', send('/topic/a', {}, 'x'.repeat(65_537)), /more than 65536 bytes/, TOO_BIG],
    ['a temp-queue as a destination', send('/temp-queue/t'), /can only be named in the reply-to header/],
  ]);

  test('a seventeenth transaction is refused', async (t) => {
    const session = await place.connect(t);
    for (let n = 0; n < 17; n += 1) session.client.begin(`t${n}`);
    const { headers } = await session.errors.item(0, 'an ERROR');
    assert.match(headers.message, /more than 16 open transactions in one session/);
    assert.equal((await session.closed.item(0)).code, LIMIT);
  });

  test('COMMIT of an unknown transaction is refused', async (t) => {
    const session = await place.connect(t);
    session.client.commit('t');
    const { headers } = await session.errors.item(0, 'an ERROR');
    assert.match(headers.message, /COMMIT names the transaction "t", which is not open/);
    assert.equal((await session.closed.item(0)).code, PROTOCOL);
  });

  test('what another session holds, and what needs no ACK, cannot be settled', async (t) => {
    const [held, free] = [`/queue/${unique('held')}`, `/queue/${unique('free')}`];
    const owner = await place.connect(t);
    const mine = await owner.subscribe(held, { ack: 'client-individual' });
    await owner.publish(held, 'mine');
    const { headers } = await mine.item(0);
    const thief = await place.connect(t);
    const his = await thief.subscribe(free, { ack: 'client-individual' });
    const token = headers.ack ?? headers['message-id'];
    const refused = await thief.refused((receipt) => thief.client.ack(token, his.subscription.id, receipt));
    assert.match(refused.message, /nothing to acknowledge under .* not delivered in this session/);
    await owner.receipted((receipt) => mine[0].ack(receipt));

    const auto = await place.connect(t);
    const messages = await auto.subscribe(free);
    await auto.publish(free, 'auto');
    const message = await messages.item(0);
    const again = await auto.refused((receipt) => auto.client.ack(message.headers['message-id'], messages.subscription.id, receipt));
    assert.match(again.message, /nothing to acknowledge under .* its subscription has ack:auto/);
  });

  test('what an exclusive queue holds is its owner\'s', async (t) => {
    const queue = `/queue/${unique('locked')}`;
    const owner = await place.connect(t);
    const messages = await owner.subscribe(queue, { exclusive: 'true' });
    for (const [number, act] of [[0, subscribe(queue)], [1, subscribe(queue)], [0, send(queue)], [0, subscribe(queue, { exclusive: 'true' })]]) {
      const other = await place.connect(t, number);
      const refused = await other.refused((receipt) => act(other, receipt));
      assert.match(refused.message, /RESOURCE_LOCKED - cannot obtain exclusive access to locked queue/);
      assert.equal(refused.code, PROTOCOL);
    }
    await owner.publish(queue, 'its own');
    assert.equal((await messages.item(0)).body, 'its own');
  });

  test('a queue that is there is not declared otherwise', async (t) => {
    const destination = `/queue/${unique('made')}`;
    const [owner, other] = [await place.connect(t), await place.connect(t, 1)];
    const messages = await owner.subscribe(destination, { 'auto-delete': 'true' });
    const refused = await other.refused((receipt) => subscribe(destination, { 'auto-delete': 'false' })(other, receipt));
    assert.match(refused.message, /^PRECONDITION_FAILED - inequivalent arg 'auto_delete'/);
    await owner.publish(destination, 'as it was');
    assert.equal((await messages.item(0)).body, 'as it was');
  });

  test('nobody else reads the answers to a temp-queue', async (t) => {
    const destination = `/queue/${unique('asked')}`;
    const asking = await place.connect(t);
    const stranger = await place.connect(t, 1);
    const requests = await stranger.subscribe(destination);
    await asking.publish(destination, '?', { 'reply-to': '/temp-queue/answers' });
    const { headers } = await requests.item(0);
    const refused = await stranger.refused((receipt) => subscribe(headers['reply-to'])(stranger, receipt));
    assert.match(refused.message, /^RESOURCE_LOCKED/);
  });
}

/** Over RabbitMQ. */
export function refusedByRabbitMq(place) {
  each(place, [
    ['a missing exchange in SUBSCRIBE', subscribe('/exchange/no-such/key'), /^NOT_FOUND - no exchange 'no-such'/],
    ['a missing exchange in SEND', send('/exchange/no-such/key'), /NOT_FOUND - no exchange 'no-such'/],
    ['an expiration that is no number', send('/queue/a', { expiration: 'soon' }), /header expiration must be a whole number/],
    ['a priority that is no number', send('/topic/a', { priority: 'high' }), /header priority must be 0 to 255/],
    ['CC', send('/topic/a', { CC: 'elsewhere' }), /header CC is RabbitMQ's own/],
    ['BCC', send('/queue/a', { BCC: 'elsewhere' }), /header BCC is RabbitMQ's own/],
    ['the name of somebody else', send('/queue/a', { 'user-id': 'somebody' }), /header user-id must be/],
  ]);

  test('arguments of a queue that has none are refused', async (t) => {
    const destination = `/queue/${unique('plain')}`;
    const sender = await place.connect(t);
    await sender.publish(destination, 'kept');
    for (const act of [subscribe, send]) {
      const other = await place.connect(t, 1);
      const refused = await other.refused((receipt) => act(destination, { 'x-max-length': '5' })(other, receipt));
      assert.match(refused.message, /^PRECONDITION_FAILED - inequivalent arg 'x-max-length'/);
    }
    const messages = await sender.subscribe(destination);
    assert.equal((await messages.item(0)).body, 'kept');
  });
}

/** By the embedded broker, which has less. */
export function refusedByEmbedded(place) {
  each(place, [
    ['an exchange', send('/exchange/amq.direct/key'), /exchange destinations are not available on this broker/],
    ['an argument', subscribe('/queue/a', { 'x-max-length': '1' }), /x-max-length is not available on this broker/],
    ['a durable subscription', subscribe('/topic/a', { id: 'd', durable: 'true' }), /durable:true is not available on this broker/],
  ]);
}
