// A cluster of real processes on free ports: a private RabbitMQ, gateways and a notifier.
//
// TESTKIT_BIN names the program that starts the RabbitMQ; by default it is the workspace's build.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Log, Process, program } from './node.mjs';

/** The program that starts private servers, which end with it. */
function testkit() {
  if (process.env.TESTKIT_BIN) return process.env.TESTKIT_BIN;
  const target = fileURLToPath(new URL('../../../../target/', import.meta.url));
  const builds = [`${target}debug/testkit`, `${target}release/testkit`];
  const found = builds.find((build) => existsSync(build));
  if (!found) throw new Error(`no testkit at ${builds.join(' or ')}: cargo build -p testkit, or set TESTKIT_BIN`);
  return found;
}

/** RabbitMQ with its own ports and directory. */
class RabbitMq extends Process {
  static async start() {
    const server = new RabbitMq();
    await server.spawn(testkit(), ['rabbitmq'], []);
    server.uri = (await server.output.item(0, 'a RabbitMQ that says where it listens')).split(' ')[0];
    return server;
  }
}

/** A `footbridge gateway` or `footbridge notifier`. */
class Service extends Process {
  static async start(command, name, env) {
    const service = new Service();
    const args = [command, '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0'];
    await service.spawn(program(), args, [name, 'Admin'], env);
    service.url = service.said(name);
    service.admin = service.said('Admin');
    service.address = new URL(service.url).host;
    return service;
  }

  /** Resolves once the service is ready. */
  async ready() {
    const answers = new Log();
    const ask = async () => {
      const answer = await fetch(this.admin).then((response) => response.text(), (error) => String(error));
      answers.add(answer);
      if (answer !== 'ready\n') setTimeout(ask, 50);
    };
    ask();
    await answers.until((log) => log.includes('ready\n'), 'a service that is ready');
  }
}

/** RabbitMQ, two gateways and a notifier, all ready. */
export class Cluster {
  static async start() {
    const cluster = new Cluster();
    cluster.rabbitmq = await RabbitMq.start();
    const env = { FOOTBRIDGE_RABBITMQ__URIS: cluster.rabbitmq.uri, FOOTBRIDGE_ACCESS__RULES: 'open' };
    cluster.gateways = await Promise.all([1, 2].map(() => Service.start('gateway', 'WebSocket', env)));
    cluster.notifier = await Service.start('notifier', 'gRPC', env);
    await Promise.all([...cluster.gateways, cluster.notifier].map((service) => service.ready()));
    return cluster;
  }

  async stop() {
    await Promise.all([...this.gateways, this.notifier].map((service) => service.stop()));
    await this.rabbitmq.kill();
  }
}
