// Stock sockjs-client below stock stomp.js, over each transport that it has in Node.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import SockJS from 'sockjs-client';
import { Session, unique } from './clients.mjs';
import { Log, Node } from './node.mjs';

const TRANSPORTS = ['websocket', 'xhr-streaming', 'eventsource', 'xhr-polling'];
const COUNT = 1_000;

let node;
before(async () => { node = await Node.start(); });
after(() => node?.stop());

/** A connected session over one of SockJS's transports. */
async function connect(t, transport, options = {}) {
  const url = new URL(node.url);
  url.protocol = 'http:';
  const sockets = new Log();
  const session = await Session.connect(t, undefined, {
    webSocketFactory: () => {
      const socket = new SockJS(url.href, null, { transports: transport });
      sockets.add(socket);
      return socket;
    },
    ...options,
  });
  assert.equal(sockets[0].transport, transport);
  return session;
}

for (const transport of TRANSPORTS) {
  test(`${transport}: ${COUNT} messages both ways, in order, none lost`, async (t) => {
    const [there, back] = [`/topic/${unique('there')}`, `/topic/${unique('back')}`];
    const session = await connect(t, transport);
    const other = await Session.connect(t, node.url);
    const [heard, returned] = [await other.subscribe(there), await session.subscribe(back)];
    heard.each((message) => other.client.publish({ destination: back, body: message.body }));
    for (let n = 0; n < COUNT; n += 1) session.client.publish({ destination: there, body: `${n} "ü"\u2028\n` });
    await returned.until((log) => log.length >= COUNT, `${COUNT} messages back`);
    assert.deepEqual(returned.map((message) => message.body), Array.from({ length: COUNT }, (_, n) => `${n} "ü"\u2028\n`));
    assert.equal(heard.length, COUNT);
    assert.equal(session.errors.length, 0);
  });

  test(`${transport}: says why it is over, and the client comes back`, async (t) => {
    const session = await connect(t, transport, { reconnectDelay: 50 });
    session.client.publish({ destination: '/topic/{x}', body: '' });
    const error = await session.errors.item(0, 'ERROR');
    assert.match(error.headers.message, /{x}/);
    const closed = await session.closed.item(0, 'the close');
    assert.ok(closed.code >= 1000, `${closed.code}`);
    await session.connected.item(1, 'another CONNECTED');
  });
}
