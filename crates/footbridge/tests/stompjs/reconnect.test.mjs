// A node that goes away and comes back: stock clients find it again by themselves.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Log, Node } from './node.mjs';
import { Session, bodies } from './clients.mjs';

/** A node, a client that subscribes whenever it is connected, and what that client got. */
async function setting(t) {
  let node = await Node.start();
  t.after(() => node.stop());
  const messages = new Log();
  const onConnect = ({ client }) => client.subscribe('/topic/news', (message) => messages.add(message));
  const session = await Session.connect(t, node.url, { reconnectDelay: 100, onConnect });
  const restart = async () => {
    node = await Node.start({ listen: node.address });
  };
  const send = async (body) => {
    const sender = await Session.connect(t, node.url);
    // Two frames of one session take effect in order, so this one also waits for the subscription.
    await session.receipted((receipt) => session.client.publish({ destination: '/topic/fence', body: 'x', headers: receipt }));
    await sender.publish('/topic/news', body);
  };
  return { session, messages, send, restart, kill: () => node.kill(), stop: () => node.stop() };
}

test('a client reconnects, subscribes and receives again after a node was killed', async (t) => {
  const { session, messages, send, restart, kill } = await setting(t);
  await send('before');
  await messages.item(0);
  await kill();
  assert.equal((await session.closed.item(0)).code, 1006);
  await restart();
  await session.connected.item(1, 'a second CONNECTED');
  assert.notEqual(session.connected[0].headers.session, session.connected[1].headers.session);
  await send('after');
  await messages.item(1);
  assert.deepEqual(bodies(messages), ['before', 'after']);
});

test('a node that is stopped says 1001, ends with success, and its clients find the next one', async (t) => {
  const { session, messages, send, restart, stop } = await setting(t);
  assert.equal(await stop(), 0);
  assert.equal((await session.closed.item(0)).code, 1001);
  assert.equal(session.errors.length, 0);
  await restart();
  await session.connected.item(1, 'a second CONNECTED');
  await send('after');
  assert.equal((await messages.item(0)).body, 'after');
});
