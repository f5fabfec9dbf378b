// Two gateways and a notifier on one RabbitMQ: what enters anywhere reaches clients everywhere, by
// stock parts: stomp.js, @grpc/grpc-js and amqplib.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';
import amqp from 'amqplib';
import { Session, bodies, unique } from './clients.mjs';
import { Cluster } from './nodes.mjs';
import { Log } from './node.mjs';

const PROTO = fileURLToPath(new URL('../../../../proto/', import.meta.url));

let cluster;
let a;
let b;
let notifications;
let channel;
before(async () => {
  cluster = await Cluster.start();
  [a, b] = cluster.gateways;
  const definition = loader.loadSync('footbridge/v1/notifications.proto', { includeDirs: [PROTO], defaults: true, keepCase: true });
  const { Notifications } = grpc.loadPackageDefinition(definition).footbridge.v1;
  notifications = new Notifications(cluster.notifier.address, grpc.credentials.createInsecure());
  channel = await (await amqp.connect(cluster.rabbitmq.uri)).createConfirmChannel();
});
after(async () => {
  notifications?.close();
  await channel?.connection.close();
  await cluster?.stop();
});

/** Calls `Publish`; resolves to the answer. */
function publish(request) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + 30_000;
    notifications.Publish(request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** Consumes `queue` as a plain AMQP application. */
async function consume(t, queue) {
  const deliveries = new Log();
  const { consumerTag } = await channel.consume(queue, (delivery) => deliveries.add(delivery), { noAck: true });
  t.after(() => channel.cancel(consumerTag));
  return deliveries;
}

/** Publishes as a plain AMQP application; resolves once RabbitMQ has it. */
async function send(exchange, key, body, properties = {}) {
  channel.publish(exchange, key, Buffer.from(body), properties);
  await channel.waitForConfirms();
}

test('what is sent on one node reaches the subscribers of every node, in order and once', async (t) => {
  const destination = `/topic/${unique('between')}`;
  const sessions = await Promise.all([a, a, b, b].map((node) => Session.connect(t, node.url)));
  const received = await Promise.all(sessions.map((session) => session.subscribe(destination)));
  const expected = Array.from({ length: 200 }, (_, n) => String(n));
  const sender = await Session.connect(t, b.url);
  for (const body of expected) sender.client.publish({ destination, body });
  await sender.publish(destination, 'last');
  for (const messages of received) {
    await messages.until((log) => log.length > 200, 'every message');
    assert.deepEqual(bodies(messages), [...expected, 'last']);
    assert.equal(messages[0].headers.destination, destination);
  }
});

test('a pattern on one node gets what its words allow from the other, spelled its own way', async (t) => {
  const root = unique('prices');
  const [one, two] = [await Session.connect(t, a.url), await Session.connect(t, b.url)];
  const dots = await one.subscribe(`/topic/${root}.#`);
  const slashes = await one.subscribe(`/topic/${root}/*`);
  await two.publish(`/topic/${root}.eur.spot`, 'deep');
  await two.publish(`/topic/${root}/usd`, 'flat');
  await dots.item(1);
  await slashes.item(0);
  assert.deepEqual(bodies(dots), ['deep', 'flat']);
  assert.deepEqual(bodies(slashes), ['flat']);
  assert.equal(dots[1].headers.destination, `/topic/${root}.usd`);
  assert.equal(slashes[0].headers.destination, `/topic/${root}/usd`);
});

test('one queue, a consumer on each node: each message is taken once, and what one gives back the other gets', async (t) => {
  const destination = `/queue/${unique('work')}`;
  const [one, two] = [await Session.connect(t, a.url), await Session.connect(t, b.url)];
  const work = { ack: 'client-individual', 'prefetch-count': '1' };
  const ones = await one.subscribe(destination, work);
  const twos = await two.subscribe(destination, work);
  const sender = await Session.connect(t, a.url);
  await sender.publish(destination, 'first');
  await sender.publish(destination, 'second');
  await Promise.all([ones.item(0), twos.item(0)]);
  assert.deepEqual([ones[0].body, twos[0].body].sort(), ['first', 'second']);
  one.break();
  twos[0].ack();
  const again = await twos.item(1, 'what the lost session had');
  assert.equal(again.body, ones[0].body);
  assert.equal(again.headers.redelivered, 'true');
  again.ack();
});

test('gRPC: text, JSON and bytes reach clients on both nodes, with headers and the id that was answered', async (t) => {
  const destination = `/topic/${unique('grpc')}`;
  const sessions = [await Session.connect(t, a.url), await Session.connect(t, b.url)];
  const received = await Promise.all(sessions.map((session) => session.subscribe(destination)));
  const headers = [{ name: 'kind', value: 'greeting: ä' }];
  const json = '{"type":"greeting","content":"hello"}';
  const answers = [
    await publish({ destination, message: { text: 'hello', headers } }),
    await publish({ destination, message: { json } }),
    await publish({ destination, message: { bytes: Buffer.from([0, 255]), content_type: 'application/x-two' } }),
  ];
  for (const messages of received) {
    await messages.item(2);
    assert.deepEqual(messages.map((m) => m.headers['message-id']), answers.map((answer) => answer.message_id));
    assert.deepEqual(messages.map((m) => m.headers['content-type']), ['text/plain', 'application/json', 'application/x-two']);
    assert.equal(messages[0].headers.kind, 'greeting: ä');
    assert.deepEqual(JSON.parse(messages[1].body), { type: 'greeting', content: 'hello' });
    assert.deepEqual([...messages[2].binaryBody], [0, 255]);
  }
});

test('gRPC: a stream of publishes is answered in order, and one that is wrong by its field alone', async (t) => {
  const destination = `/topic/${unique('stream')}`;
  const session = await Session.connect(t, a.url);
  const messages = await session.subscribe(destination);
  const call = notifications.PublishStream({ deadline: Date.now() + 60_000 });
  const answers = new Log();
  call.on('data', (answer) => answers.add(answer));
  call.on('error', (error) => answers.add(error));
  for (let n = 0; n < 300; n += 1) {
    call.write({ destination: n === 150 ? '/topic/a..b' : destination, message: { text: String(n) } });
  }
  call.end();
  await answers.until((log) => log.length === 300, 'every answer');
  assert.equal(answers[150].failure.field, 'destination');
  assert.equal(answers[150].failure.code, grpc.status.INVALID_ARGUMENT);
  const ids = answers.filter((_, n) => n !== 150).map((answer) => answer.published.message_id);
  await messages.until((log) => log.length === 299, 'every message');
  assert.deepEqual(messages.map((message) => message.headers['message-id']), ids);
});

test('gRPC: to a queue, and to a destination that is none', async (t) => {
  const destination = `/queue/${unique('grpc')}`;
  await publish({ destination, message: { text: 'kept' } });
  const session = await Session.connect(t, b.url);
  const messages = await session.subscribe(destination);
  assert.equal((await messages.item(0)).body, 'kept');
  assert.equal(messages[0].headers.persistent, 'true');
  await assert.rejects(publish({ destination: '/topic/*', message: { text: '' } }), (error) => {
    assert.equal(error.code, grpc.status.INVALID_ARGUMENT);
    return /destination/.test(error.details);
  });
});

test('AMQP: what an application publishes to amq.topic reaches clients on both nodes, its properties as headers', async (t) => {
  const topic = unique('amqp');
  const sessions = [await Session.connect(t, a.url), await Session.connect(t, b.url)];
  const received = await Promise.all(sessions.map((session) => session.subscribe(`/topic/${topic}.#`)));
  await send('amq.topic', `${topic}.created`, 'by AMQP', {
    contentType: 'text/plain', correlationId: 'c-1', replyTo: 'replies', messageId: 'm-1', priority: 3, type: 'order', appId: 'shop',
    expiration: '60000', timestamp: 1_700_000_000, headers: { word: 'w', number: 70_000 },
  });
  for (const messages of received) {
    const { headers, body } = await messages.item(0);
    assert.equal(body, 'by AMQP');
    assert.equal(headers.destination, `/topic/${topic}.created`);
    for (const [name, value] of Object.entries({
      'content-type': 'text/plain', 'correlation-id': 'c-1', 'reply-to': '/reply-queue/replies', 'amqp-message-id': 'm-1', priority: '3',
      type: 'order', 'app-id': 'shop', expiration: '60000', timestamp: '1700000000', word: 'w', number: '70000',
    })) assert.equal(headers[name], value, name);
  }
});

test('AMQP: an application that consumes from amq.topic gets what a browser sent, its headers as properties', async (t) => {
  const topic = unique('to-amqp');
  const { queue } = await channel.assertQueue('', { exclusive: true });
  await channel.bindQueue(queue, 'amq.topic', `${topic}.*`);
  const deliveries = await consume(t, queue);
  const session = await Session.connect(t, a.url);
  await session.publish(`/topic/${topic}/order`, 'by STOMP', {
    'content-type': 'text/plain', 'correlation-id': 'c-2', type: 'order', 'amqp-message-id': 'm-2', priority: '4', expiration: '60000', mine: 'kept',
  });
  const { fields, properties, content } = await deliveries.item(0);
  assert.deepEqual([fields.routingKey, content.toString()], [`${topic}.order`, 'by STOMP']);
  assert.deepEqual(
    [properties.contentType, properties.correlationId, properties.type, properties.messageId, properties.priority, properties.expiration],
    ['text/plain', 'c-2', 'order', 'm-2', 4, '60000'],
  );
  // It asked for a receipt, so it survives a restart of RabbitMQ.
  assert.equal(properties.deliveryMode, 2);
  assert.equal(properties.headers.mine, 'kept');
});

test('AMQP: queues work both ways', async (t) => {
  const queue = unique('both');
  const session = await Session.connect(t, b.url);
  await session.publish(`/queue/${queue}`, 'to the application');
  const delivery = await channel.get(queue, { noAck: true });
  assert.equal(delivery.content.toString(), 'to the application');
  await send('', queue, 'to the browser', { deliveryMode: 2 });
  const messages = await session.subscribe(`/queue/${queue}`);
  const message = await messages.item(0);
  assert.equal(message.body, 'to the browser');
  assert.equal(message.headers.persistent, 'true');
});

test('what a client says that RabbitMQ would close a channel for ends that session alone', async (t) => {
  const topic = unique('hygiene');
  const witness = await Session.connect(t, a.url);
  const messages = await witness.subscribe(`/topic/${topic}`);
  const sender = await Session.connect(t, a.url);
  const wrong = {
    expiration: 'soon', priority: 'high', 'user-id': 'somebody', CC: 'elsewhere', BCC: 'elsewhere', 'content-type': 'x'.repeat(300),
  };
  for (const [name, value] of Object.entries(wrong)) {
    const culprit = await Session.connect(t, a.url);
    culprit.client.publish({ destination: `/topic/${topic}`, body: 'wrong', headers: { [name]: value } });
    const error = await culprit.errors.item(0, `an ERROR about ${name}`);
    assert.match(error.headers.message + error.body, new RegExp(name), name);
    await sender.publish(`/topic/${topic}`, name);
  }
  await messages.until((log) => log.length === Object.keys(wrong).length, 'what others sent meanwhile');
  assert.deepEqual(bodies(messages), Object.keys(wrong));
  assert.deepEqual([witness.closed.length, sender.closed.length], [0, 0]);
});
