// Heart-beats, on a node that offers one a second.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Raw, Session, bodies, unique } from './clients.mjs';
import { Node } from './node.mjs';

let node;
before(async () => {
  const env = { FOOTBRIDGE_STOMP__HEART_BEAT_SEND: '1s', FOOTBRIDGE_STOMP__HEART_BEAT_RECEIVE: '1s' };
  node = await Node.start({ env });
});
after(() => node.stop());

const everySecond = { heartbeatOutgoing: 1000, heartbeatIncoming: 1000 };

test('heart-beats both ways keep an idle connection', async (t) => {
  const session = await Session.connect(t, node.url, everySecond);
  assert.equal(session.headers['heart-beat'], '1000,1000');
  const lost = [];
  session.client.onHeartbeatLost = () => lost.push('lost');
  await session.beats.item(4, 'five heart-beats of the server');
  const sent = (log) => log.filter((line) => line === '>>> PING').length;
  await session.debug.until((log) => sent(log) >= 5, 'five heart-beats of the client');
  const destination = `/topic/${unique('still-there')}`;
  const messages = await session.subscribe(destination);
  await session.publish(destination, 'still there');
  await messages.item(0);
  assert.deepEqual([bodies(messages), lost, session.closed.length], [['still there'], [], 0]);
});

test('a client that goes silent is told so and closed with 4408', async (t) => {
  const raw = await Raw.connect(t, node.url, { 'heart-beat': '1000,1000' }, { autoPong: false });
  const { headers } = await raw.received('ERROR');
  assert.match(headers.message, /heard nothing for/);
  assert.equal((await raw.closed.item(0)).code, 4408);
});

test('a client that sends no heart-beats but answers pings is kept', async (t) => {
  const raw = await Raw.connect(t, node.url, { 'heart-beat': '1000,1000' });
  // The silent client above was closed within two.
  await raw.beats.item(5, 'six heart-beats');
  assert.equal(raw.closed.length, 0);
});

test('a client that agreed on no heart-beats may be silent, and gets none', async (t) => {
  const silent = await Raw.connect(t, node.url, { 'heart-beat': '0,0' }, { autoPong: false });
  const clock = await Raw.connect(t, node.url, { 'heart-beat': '0,1000' }, { autoPong: false });
  await clock.beats.item(4, 'five heart-beats');
  assert.deepEqual([silent.closed.length, silent.beats.length, clock.closed.length], [0, 0, 0]);
});
