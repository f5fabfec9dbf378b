// The example application of `footbridge dev`: what is sent to /app/message is relayed to everyone.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Raw, Session, bodies, frame } from './clients.mjs';
import { Node } from './node.mjs';

let node;
before(async () => {
  node = await Node.start();
});
after(() => node.stop());

test('what is sent to /app/message reaches everyone at /topic/public', async (t) => {
  const sessions = await Promise.all([1, 2].map(() => Session.connect(t, node.url)));
  const logs = await Promise.all(sessions.map((session) => session.subscribe('/topic/public')));
  sessions[0].client.publish({ destination: '/app/message', body: 'Hello' });
  await sessions[0].publish('/app/message', '{"n":2}', { 'content-type': 'application/json' });
  for (const messages of logs) {
    await messages.item(1);
    assert.deepEqual(bodies(messages), ['Hello', '{"n":2}']);
    assert.equal(messages[1].headers.destination, '/topic/public');
    assert.equal(messages[1].headers['content-type'], 'application/json');
  }
});

test('what no handler takes is refused, by name', async (t) => {
  const raw = await Raw.connect(t, node.url);
  raw.send(frame('SEND', { destination: '/app/nobody', receipt: 'r' }, 'x'));
  const { headers } = await raw.received('ERROR');
  assert.match(headers.message, /nobody/);
  assert.equal(headers['receipt-id'], 'r');
  assert.equal((await raw.closed.item(0)).code, 1002);
});
