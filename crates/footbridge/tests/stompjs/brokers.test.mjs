// The same rows over every broker: RabbitMQ, behind two gateways, and the embedded one. Each row is for
// a `Place`: where its clients connect, and by which version of STOMP.

import { after, before, describe } from 'node:test';
import { Versions } from '@stomp/stompjs';
import amqp from 'amqplib';
import { Session } from './clients.mjs';
import { Node } from './node.mjs';
import { Cluster } from './nodes.mjs';
import { destinations } from './rows/destinations.mjs';
import { durable } from './rows/durable.mjs';
import { exchanges } from './rows/exchanges.mjs';
import { acknowledgement } from './rows/acknowledgement.mjs';
import { queueArguments } from './rows/queue_arguments.mjs';
import { queues } from './rows/queues.mjs';
import { refusals, refusedByEmbedded, refusedByRabbitMq } from './rows/refusals.mjs';
import { transactions } from './rows/transactions.mjs';

let cluster;
let embedded;
let channel;

before(async () => {
  cluster = await Cluster.start();
  embedded = await Node.start();
  channel = await (await amqp.connect(cluster.rabbitmq.uri)).createConfirmChannel();
});
after(async () => {
  await channel?.connection.close();
  await embedded?.stop();
  await cluster?.stop();
});

class Place {
  #nodes;

  constructor(nodes, version) {
    this.#nodes = nodes;
    this.version = version;
  }

  /** Where clients connect if they do not care which node it is. */
  get url() {
    return this.#nodes()[0].url;
  }

  /** What an AMQP application has, where the broker is RabbitMQ. */
  get channel() {
    return channel;
  }

  /** A client on one of the nodes; there may be as few as one. */
  connect(t, number = 0) {
    const nodes = this.#nodes();
    const options = { stompVersions: new Versions([this.version]) };
    return Session.connect(t, nodes[number % nodes.length].url, options);
  }
}

const common = [destinations, acknowledgement, refusals];
const brokers = [
  ['RabbitMQ', () => cluster.gateways, [...common, exchanges, queueArguments, durable, refusedByRabbitMq]],
  ['the embedded broker', () => [embedded], [...common, refusedByEmbedded]],
];
for (const [broker, nodes, rows] of brokers) {
  // They have versions of their own, or none that matter.
  for (const row of [queues, transactions]) describe(`${row.name} on ${broker}`, () => row(new Place(nodes)));
  for (const version of ['1.0', '1.1', '1.2']) {
    for (const row of rows) describe(`${row.name} on ${broker} by STOMP ${version}`, () => row(new Place(nodes, version)));
  }
}
