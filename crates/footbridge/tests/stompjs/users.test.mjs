// Users, sessions and groups on two gateways with Redis, by stock parts: stomp.js, @grpc/grpc-js, amqplib and a bare
// WebSocket.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';
import amqp from 'amqplib';
import { WebSocket } from 'ws';
import { Session, bodies, unique } from './clients.mjs';
import { Cluster } from './nodes.mjs';
import { Log } from './node.mjs';

const PROTO = fileURLToPath(new URL('../../../../proto/', import.meta.url));

let cluster;
let a;
let b;
let services;
let connection;
before(async () => {
  cluster = await Cluster.start();
  [a, b] = cluster.gateways;
  const files = ['notifications', 'presence', 'groups'].map((name) => `footbridge/v1/${name}.proto`);
  const definition = loader.loadSync(files, { includeDirs: [PROTO], defaults: true, keepCase: true, longs: Number });
  const { Notifications, Presence, Groups } = grpc.loadPackageDefinition(definition).footbridge.v1;
  const client = (Service) => new Service(cluster.notifier.address, grpc.credentials.createInsecure());
  services = { notifications: client(Notifications), presence: client(Presence), groups: client(Groups) };
  connection = await amqp.connect(cluster.rabbitmq.uri);
});
after(async () => {
  for (const client of Object.values(services ?? {})) client.close();
  await connection?.close();
  await cluster?.stop();
});

/** Calls a method of a service; resolves to the answer. */
function call(service, method, request) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + 30_000;
    services[service][method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** A session of that user, which the cluster believes, on that node. */
function connect(t, node, login) {
  return Session.connect(t, node.url, { connectHeaders: { login } });
}

/** A bare WebSocket of that user, and what it gets. */
async function plain(t, node, login) {
  const socket = new WebSocket(node.url.replace(/\/ws$/, `/plain?login=${login}`));
  t.after(() => socket.close());
  const messages = new Log();
  socket.on('message', (data) => messages.add(String(data)));
  await new Promise((open, failed) => socket.once('open', open).once('error', failed));
  // It is known once presence says so.
  const known = async () => (await call('presence', 'GetUsers', { users: [login] })).users[0]?.sessions ?? [];
  while ((await known()).length === 0) await new Promise((wake) => setTimeout(wake, 20));
  return { socket, messages };
}

test('a service reaches all sessions of a user on all nodes, or one of them', async (t) => {
  const user = unique('ann');
  const sessions = await Promise.all([a, a, b].map((node) => connect(t, node, user)));
  const other = await connect(t, b, unique('bob'));
  const received = await Promise.all(sessions.map((session) => session.subscribe('/user/queue/news')));
  const nothing = await other.subscribe('/user/queue/news');
  const destination = '/queue/news';
  const sent = await call('notifications', 'SendToUser', { users: [user], destination, message: { text: 'to all' } });
  assert.equal(sent.sessions, 3);
  assert.equal(sent.nodes, 2);
  const { users } = await call('presence', 'GetUsers', { users: [user] });
  const [{ sessions: known }] = users;
  assert.equal(known.length, 3);
  const one = await call('notifications', 'SendToSession', {
    sessions: [known[0].id], destination, message: { text: 'to one' },
  });
  assert.equal(one.sessions, 1);
  await call('notifications', 'SendToAll', { destination, message: { json: '{"n":1}' } });
  await call('notifications', 'SendToUser', { users: [user], destination, message: { text: 'last' } });
  await Promise.all(received.map((log) => log.until((all) => bodies(all).includes('last'), 'the last')));
  for (const log of received) {
    assert.equal(log[0].body, 'to all');
    assert.equal(log[0].headers.destination, '/user/queue/news');
    assert.equal(log[0].headers['message-id'], sent.message_id);
  }
  const counts = received.map((log) => bodies(log).filter((body) => body === 'to one').length);
  assert.deepEqual(counts.sort(), [0, 0, 1]);
  await nothing.item(0);
  assert.deepEqual(bodies(nothing), ['{"n":1}']);
});

test('a client reaches another user on another node, and a session by its id', async (t) => {
  const [ann, bob] = [unique('ann'), unique('bob')];
  const [one, two] = [await connect(t, a, ann), await connect(t, b, bob)];
  const messages = await two.subscribe('/user/queue/chat');
  await one.publish(`/user/${bob}/queue/chat`, 'by name');
  await one.publish(`/user/${two.headers.session}/queue/chat`, 'by id');
  await messages.item(1);
  assert.deepEqual(bodies(messages), ['by name', 'by id']);
});

test('members of a group get what is sent to it, and nothing once they are removed', async (t) => {
  const [ann, bob, group] = [unique('ann'), unique('bob'), unique('group')];
  await call('groups', 'Add', { group, users: [ann, bob] });
  const [one, two] = [await connect(t, a, ann), await connect(t, b, bob)];
  const [first, second] = [await one.subscribe(`/group/${group}`), await two.subscribe(`/group/${group}`)];
  const errors = await one.subscribe('/user/queue/errors');
  await call('notifications', 'SendToGroup', { groups: [group], message: { text: 'to both' } });
  const { removed } = await call('groups', 'Remove', { group, users: [ann] });
  assert.equal(removed, 1);
  await call('notifications', 'SendToGroup', { groups: [group], message: { text: 'to bob' } });
  await second.item(1);
  assert.deepEqual(bodies(second), ['to both', 'to bob']);
  await errors.item(0);
  assert.equal(errors[0].headers.error, 'unsubscribed');
  assert.deepEqual(bodies(first), ['to both']);
  const stranger = await connect(t, a, unique('eve'));
  const refused = stranger.refused((headers) => stranger.client.subscribe(`/group/${group}`, () => {}, headers));
  assert.equal((await refused).code, 4403);
});

test('a service that has only AMQP reaches a user, and hears how many sessions that were', async (t) => {
  const user = unique('ann');
  const session = await connect(t, b, user);
  const messages = await session.subscribe('/user/queue/orders');
  const channel = await connection.createChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  const answers = new Log();
  await channel.consume(queue, (answer) => answers.add(answer), { noAck: true });
  channel.publish('footbridge.to', `user.${user}`, Buffer.from('shipped'), {
    replyTo: queue, correlationId: '7', headers: { destination: '/queue/orders' },
  });
  await messages.item(0);
  assert.equal(messages[0].body, 'shipped');
  await answers.item(0);
  assert.equal(answers[0].properties.correlationId, '7');
  assert.equal(JSON.parse(answers[0].content).sessions, 1);
});

test('a bare WebSocket gets what is for its user and its groups', async (t) => {
  const [user, group] = [unique('ann'), unique('group')];
  const { messages } = await plain(t, a, user);
  await call('notifications', 'SendToUser', { users: [user], destination: '/queue/any', message: { text: 'user' } });
  await messages.item(0);
  assert.equal(messages[0], 'user');
  await call('groups', 'Add', { group, users: [user] });
  // It joins by itself, beside whatever else goes on.
  while (!messages.includes('group')) {
    await call('notifications', 'SendToGroup', { groups: [group], message: { text: 'group' } });
    await new Promise((wake) => setTimeout(wake, 20));
  }
});

test('a service ends a session with a reason, and keeps its user out', async (t) => {
  const user = unique('ann');
  const session = await connect(t, a, user);
  const of = { users: [user] };
  await call('presence', 'Disconnect', { targets: of, reason: 'you were rude', ban_for: { seconds: 60 } });
  const [{ body }, { code }] = [await session.errors.item(0, 'an ERROR'), await session.closed.item(0, 'the close')];
  assert.equal(code, 4403);
  assert.equal(body, 'you were rude');
  const again = new Session(b.url, { connectHeaders: { login: user } });
  t.after(() => again.client.deactivate({ force: true }));
  again.client.activate();
  assert.match((await again.errors.item(0, 'an ERROR')).body, /banned/);
});
