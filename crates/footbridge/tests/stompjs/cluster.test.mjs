// A cluster as operators run it: RabbitMQ, two gateways, the notifier and HAProxy, by
// scripts/cluster, with stock clients that come through HAProxy. And docker-compose.yml, which is to
// be the same cluster.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { bodies, Session, unique } from './clients.mjs';
import { PATIENCE, program } from './node.mjs';

const TOP = fileURLToPath(new URL('../../../../', import.meta.url));
const run = promisify(execFile);

/** Nothing that a cluster does takes so long. */
const LIMIT = 300_000;

/** Resolves to a server on that port of 127.0.0.1, or to nothing if there is one already. */
function listen(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve());
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

function close(server) {
  return new Promise((closed) => server.close(closed));
}

/** Whether nobody listens on the ports of a cluster of two, of which `base` is the first. */
async function areFree(base) {
  const servers = await Promise.all(Array.from({ length: 14 }, (_, n) => listen(base + n)));
  await Promise.all(servers.filter(Boolean).map(close));
  return servers.every(Boolean);
}

async function freePorts() {
  for (;;) {
    const base = 20_000 + 100 * Math.floor(100 * Math.random());
    if (await areFree(base)) return base;
  }
}

/** Resolves once `condition()` does to something true. */
async function until(condition, what) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not after ${PATIENCE} ms`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

/** What scripts/cluster says, from another directory, of one cluster of this test. */
class Cluster {
  static async create(t) {
    const cluster = new Cluster();
    cluster.directory = await mkdtemp(join(tmpdir(), 'footbridge-cluster-'));
    cluster.base = await freePorts();
    t.after(async () => {
      await cluster.run('down', '--purge').catch(() => {});
      await rm(cluster.directory, { recursive: true, force: true });
    });
    return cluster;
  }

  /** Resolves to standard output and error together; a command that fails has both in its error. */
  async run(...args) {
    const env = {
      ...process.env,
      FOOTBRIDGE_BIN: program(),
      FOOTBRIDGE_CLUSTER: this.directory,
      FOOTBRIDGE_CLUSTER_PORT: String(this.base),
    };
    const { stdout, stderr } = await run(join(TOP, 'scripts/cluster'), args, { cwd: tmpdir(), env, timeout: LIMIT });
    return stdout + stderr;
  }

  /** What `status` says of each part, the words of its line by its name; and whether all is well. */
  async status() {
    const { stdout, code = 0 } = await this.run('status').then((stdout) => ({ stdout }), (error) => error);
    const lines = stdout.trim().split('\n').slice(1).map((line) => line.split(/\s+/));
    return { code, parts: Object.fromEntries(lines.map(([part, ...words]) => [part, words.join(' ')])) };
  }

  get url() {
    return `ws://127.0.0.1:${this.base}/ws`;
  }
}

test('a cluster passes messages between nodes, loses one, gets it back, and is rolled', { timeout: LIMIT }, async (t) => {
  const cluster = await Cluster.create(t);

  // A port that is taken is named before anything is started.
  const squatter = await listen(cluster.base + 10);
  await assert.rejects(cluster.run('up'), new RegExp(`port ${cluster.base + 10}, for gateway-1, is taken by .*${process.pid}`));
  await close(squatter);

  // A process that has a gateway's old id by chance is not taken for it: this one.
  await writeFile(join(cluster.directory, 'gateway-1.pid'), `${process.pid} 1\n`);
  const up = await cluster.run('up');
  assert.match(up, /starting gateway-1\n/);
  assert.match(up, /everything is ready/);
  assert.match(await cluster.run('up'), /gateway-1 runs already/);

  // HAProxy sends a new session where fewest are, so these two are on different nodes.
  const connect = () => Session.connect(t, cluster.url, { reconnectDelay: 100 });
  const [one, other] = [await connect(), await connect()];
  const destination = `/topic/${unique('cluster')}`;
  const received = await one.subscribe(destination);
  await other.publish(destination, 'from the other node');
  await received.item(0, 'a message from the other node');
  await run(program(), ['send', '--grpc', `http://127.0.0.1:${cluster.base + 1}`, destination, 'from a service']);
  await received.item(1, 'a message from the notifier');
  assert.deepEqual(bodies(received), ['from the other node', 'from a service']);
  const before = await cluster.status();
  assert.equal(before.code, 0);
  assert.match(before.parts['gateway-1'], /^\d+ up ready UP.* sessions: 1$/);
  assert.match(before.parts['gateway-2'], /^\d+ up ready UP.* sessions: 1$/);
  assert.match(before.parts.rabbitmq, /^\d+ up ready \d+ connections, \d+ queues, \d+ MB$/);

  // The client of a node that is lost comes back through HAProxy, on the other node.
  const survivors = [one, other];
  await cluster.run('kill', 'gateway-1');
  await until(() => survivors.some(({ connected }) => connected.length === 2), 'the lost client is back');
  const without = await cluster.status();
  assert.notEqual(without.code, 0);
  assert.match(without.parts['gateway-1'], /^down/);
  assert.match(without.parts['gateway-2'], / up ready UP.* sessions: 2$/);
  assert.match(await cluster.run('start', 'gateway-1'), /gateway-1 is ready/);

  // Rolled, each node says good-bye first, and clients are served throughout.
  const pids = async () => Promise.all(['gateway-1', 'gateway-2', 'notifier', 'haproxy']
    .map((part) => readFile(join(cluster.directory, `${part}.pid`), 'utf8')));
  const old = await pids();
  await cluster.run('roll');
  const rolled = await pids();
  assert.deepEqual(rolled.map((pid, n) => pid === old[n]), [false, false, false, true]);
  const codes = survivors.flatMap(({ closed }) => Array.from(closed, ({ code }) => code));
  assert.ok(codes.includes(1001), `close codes ${codes}`);
  const late = await connect();
  const last = await late.subscribe(destination);
  await until(() => survivors.every(({ client }) => client.connected), 'all clients are back');
  await other.publish(destination, 'after all');
  await last.item(0, 'a message after the roll');

  // docker-compose.yml is the same cluster.
  const after = await cluster.status();
  assert.equal(after.code, 0);
  const { stdout: services } = await run('docker-compose', ['config', '--services'], { cwd: TOP });
  assert.deepEqual(services.trim().split('\n').sort(), Object.keys(after.parts).sort());

  // Nothing stays behind.
  for (const { client } of [...survivors, late]) await client.deactivate({ force: true });
  await cluster.run('down', '--purge');
  assert.ok(await areFree(cluster.base));
});

test('docker-compose.yml is valid, and stops a node no sooner than it has drained', async () => {
  const { stdout } = await run('docker-compose', ['config'], { cwd: TOP });
  // As the first and the second generation of the tool write it.
  assert.equal(stdout.match(/- 127\.0\.0\.1:\d+:\d+|host_ip: 127\.0\.0\.1/g).length, 3);
  assert.equal(stdout.match(/stop_grace_period: 35s/g).length, 3);
});
