// 1,000 subscribers of one topic, stock clients all: every delivery arrives, in order, once.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Session, unique } from './clients.mjs';
import { Log, Node } from './node.mjs';

const SUBSCRIBERS = 1000;
const MESSAGES = 200;
const IN_FLIGHT = 4;
/** As many connect at a time. */
const BATCH = 50;

test(`${SUBSCRIBERS} subscribers get ${MESSAGES} messages each, ${IN_FLIGHT} in flight, in order and once`, async (t) => {
  const node = await Node.start();
  t.after(() => node.stop());
  const destination = `/topic/${unique('fan-out')}`;

  /** For each message, how many subscribers have it; complete ones are counted in `complete`. */
  const deliveries = new Array(MESSAGES).fill(0);
  const complete = new Log();
  const wrong = new Log();
  const subscribers = [];

  const join = async () => {
    const session = await Session.connect(t, node.url, { debug: () => {} });
    const subscriber = { session, next: 0 };
    await session.receipted((receipt) => session.client.subscribe(destination, ({ body }) => {
      const n = Number(body);
      if (n !== subscriber.next) wrong.add(`${n} instead of ${subscriber.next}`);
      subscriber.next = n + 1;
      deliveries[n] += 1;
      if (deliveries[n] === SUBSCRIBERS) complete.add(n);
    }, receipt));
    subscribers.push(subscriber);
  };
  while (subscribers.length < SUBSCRIBERS) await Promise.all(Array.from({ length: BATCH }, join));

  const sender = await Session.connect(t, node.url);
  for (let n = 0; n < MESSAGES; n += 1) {
    await complete.until((log) => log.length > n - IN_FLIGHT, `message ${n - IN_FLIGHT} at every subscriber`);
    sender.client.publish({ destination, body: String(n) });
  }
  await complete.until((log) => log.length === MESSAGES, 'every message at every subscriber');

  assert.deepEqual([...wrong], []);
  assert.ok(deliveries.every((count) => count === SUBSCRIBERS));
  assert.ok(subscribers.every(({ session, next }) => next === MESSAGES && session.closed.length === 0));
  t.diagnostic(`${SUBSCRIBERS * MESSAGES} deliveries`);
});
