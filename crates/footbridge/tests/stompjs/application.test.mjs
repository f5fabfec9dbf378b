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

test('what no handler takes is told so, by name, and the session goes on', async (t) => {
  const session = await Session.connect(t, node.url);
  const errors = await session.subscribe('/user/queue/errors');
  const { headers } = await session.receipted((receipt) => {
    session.client.publish({ destination: '/app/nobody', body: 'x', headers: receipt });
  });
  assert.equal(headers.error, 'no_handler');
  const error = await errors.item(0);
  assert.equal(error.headers.error, 'no_handler');
  assert.equal(error.headers['error-destination'], '/app/nobody');
  assert.match(error.body, /nothing handles \/app\/nobody/);
  await session.publish('/app/message', 'still here');
});
