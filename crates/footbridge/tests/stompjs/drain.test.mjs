// A stock client that connects again by itself, while the node it is with is drained: it is told so, is back
// at another node, and no message of its queue, or stored for its user, is lost.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Session, bodies, unique } from './clients.mjs';
import { Log } from './node.mjs';
import { Cluster } from './nodes.mjs';

let cluster;
before(async () => {
  cluster = await Cluster.start({ FOOTBRIDGE_GATEWAY__DRAIN_NOTICE: '500ms' });
});
after(() => cluster?.stop());

test('the node of a client with automatic reconnect is drained, and its queue goes on at another', async (t) => {
  const queue = `/queue/${unique('drain')}`;
  await goesOn(t, cluster.gateways, { login: 'anybody', from: queue, to: queue });
});

test('what is stored for a user goes on at another node, too', async (t) => {
  // One that has taken the place of the first.
  await cluster.startGateway(0);
  const [first, second] = cluster.gateways;
  const headers = { persistent: 'true' };
  const login = unique('ann');
  const to = `/user/${login}/queue/news`;
  await goesOn(t, [second, first], { login, from: '/user/queue/news', to, headers });
});

/** Drains the first node under a client that consumes `from`, while another sends `to` there. */
async function goesOn(t, [a, b], { login, from, to, headers }) {
  // As a load balancer would: the first connection goes to one node, the next to another.
  const urls = [a.url, b.url];
  const received = new Log();
  let holds = false;
  const consumer = await Session.connect(t, a.url, {
    connectHeaders: { login },
    reconnectDelay: 100,
    beforeConnect(client) {
      if (urls.length > 0) client.brokerURL = urls.shift();
    },
    onConnect({ client }) {
      const receive = (message) => {
        // The first is being worked on when the node stops.
        if (holds) message.ack();
        holds = true;
        received.add(message);
      };
      client.subscribe(from, receive, { ack: 'client-individual' });
    },
  });
  const producer = await Session.connect(t, b.url);

  let sent = 0;
  let sending = true;
  const flow = (async () => {
    for (; sending; sent += 1) await producer.publish(to, String(sent), headers);
  })();
  const more = (n) => {
    const until = received.length + n;
    return received.until(({ length }) => length >= until, `${n} more messages`);
  };
  await more(20);
  assert.equal(await a.stop(), 0);
  const { code, reason } = await consumer.closed.item(0, 'the close of a node that drains');
  assert.deepEqual([code, String(reason)], [1001, 'this node is stopping']);
  await consumer.connected.item(1, 'a second CONNECTED');
  await more(20);
  sending = false;
  await flow;
  await producer.publish(to, 'last', headers);
  await received.until((log) => log.some(({ body }) => body === 'last'), 'the last message');

  // Each came, and what came twice says so: among that what was not acknowledged. What says so may also have
  // been on its way only.
  const wanted = [...Array.from({ length: sent }, (_, n) => String(n)), 'last'];
  const came = bodies(received);
  assert.deepEqual(wanted.filter((body) => !came.includes(body)), []);
  const again = bodies(received.filter(({ headers }) => headers.redelivered === 'true'));
  assert.ok(again.includes('0'), `redelivered: ${again}`);
  const first = bodies(received.filter(({ headers }) => headers.redelivered !== 'true'));
  assert.equal(new Set(first).size, first.length);
  assert.equal(consumer.errors.length, 0);
  assert.equal(producer.closed.length, 0);
}
