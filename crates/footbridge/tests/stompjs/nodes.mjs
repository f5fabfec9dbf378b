// A cluster of real processes on free ports: a private RabbitMQ and Redis, gateways and a notifier.
//
// TESTKIT_BIN names the program that starts the servers; by default it is the workspace's build.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { PATIENCE, Process, program } from './node.mjs';

/** The program that starts private servers, which end with it. */
function testkit() {
  if (process.env.TESTKIT_BIN) return process.env.TESTKIT_BIN;
  const target = fileURLToPath(new URL('../../../../target/', import.meta.url));
  const builds = [`${target}debug/testkit`, `${target}release/testkit`];
  const found = builds.find((build) => existsSync(build));
  if (!found) throw new Error(`no testkit at ${builds.join(' or ')}: cargo build -p testkit, or set TESTKIT_BIN`);
  return found;
}

/** RabbitMQ or Redis with its own ports and directory. */
class Server extends Process {
  static async start(name) {
    const server = new Server();
    // It waits for its server itself, and longer than a Log does.
    await server.spawn(testkit(), [name], []);
    server.uri = (await server.line()).split(' ')[0];
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
    const deadline = Date.now() + PATIENCE;
    let answer;
    do {
      if (answer !== undefined) await new Promise((wake) => setTimeout(wake, 50));
      answer = await fetch(this.admin).then((response) => response.text(), String);
    } while (answer !== 'ready\n' && Date.now() < deadline);
    if (answer !== 'ready\n') throw new Error(`not ready after ${PATIENCE} ms: ${answer}`);
  }
}

/** RabbitMQ, two gateways and a notifier, all ready. */
export class Cluster {
  gateways = [];
  #env;

  /** Starts it, with these variables besides. */
  static async start(env = {}) {
    const cluster = new Cluster();
    try {
      await cluster.#begin(env);
    } catch (error) {
      // What runs already would keep the test process alive.
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  async #begin(more) {
    [this.rabbitmq, this.redis] = await Promise.all(['rabbitmq', 'redis'].map((name) => Server.start(name)));
    const env = {
      FOOTBRIDGE_RABBITMQ__URIS: this.rabbitmq.uri,
      FOOTBRIDGE_REDIS__URLS: this.redis.uri,
      FOOTBRIDGE_ACCESS__RULES: 'open',
      // No load balancer has to notice that one stops.
      FOOTBRIDGE_GATEWAY__DRAIN_NOTICE: '0s',
      ...more,
    };
    this.#env = env;
    for (let n = 0; n < 2; n += 1) this.gateways.push(await Service.start('gateway', 'WebSocket', env));
    this.notifier = await Service.start('notifier', 'gRPC', env);
    await Promise.all([...this.gateways, this.notifier].map((service) => service.ready()));
  }

  /** Starts a gateway in the place of one that has stopped. */
  async startGateway(n) {
    this.gateways[n] = await Service.start('gateway', 'WebSocket', this.#env);
    await this.gateways[n].ready();
  }

  async stop() {
    await Promise.all([...this.gateways, this.notifier].map((service) => service?.stop()));
    await Promise.all([this.rabbitmq?.kill(), this.redis?.kill()]);
  }
}
