// Real footbridge processes, children of the test: `footbridge dev` as Node; for others see nodes.mjs.
//
// FOOTBRIDGE_BIN names the program, CHAT_BIN that of the chat; by default it is the workspace's release build, or else its
// debug build. Every process listens on free ports of 127.0.0.1 and is stopped by its pid.
//
// No test sleeps: it waits for a condition on a `Log`, and fails after PATIENCE. That something
// does not happen is shown by something later in the same order that does.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** How long a test waits for what should come at once. */
export const PATIENCE = 30_000;

/** The program under test. */
export function program() {
  return built('footbridge');
}

/** A program of the workspace's. */
export function built(name) {
  const variable = `${name.toUpperCase()}_BIN`;
  if (process.env[variable]) return process.env[variable];
  const target = fileURLToPath(new URL('../../../../target/', import.meta.url));
  const builds = [`${target}release/${name}`, `${target}debug/${name}`];
  const found = builds.find((build) => existsSync(build));
  if (!found) throw new Error(`no ${name} at ${builds.join(' or ')}: build it, or set ${variable}`);
  return found;
}

/** What happened, in order, and a way to wait until enough has. */
export class Log extends Array {
  #waiting = new Set();

  static get [Symbol.species]() {
    return Array;
  }

  add(item) {
    this.push(item);
    this.#waiting.forEach((look) => look());
  }

  /** Resolves to this log once `condition(log)` holds; `what` says what was waited for. */
  until(condition, what) {
    if (condition(this)) return Promise.resolve(this);
    return new Promise((resolve, reject) => {
      const look = () => {
        if (condition(this)) end(resolve, this);
      };
      const late = () => end(reject, new Error(`${what}: not after ${PATIENCE} ms; have ${this.length}`));
      const timer = setTimeout(late, PATIENCE);
      const end = (settle, value) => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        settle(value);
      };
      this.#waiting.add(look);
    });
  }

  /** Calls `act` with every item, those that are there first. */
  each(act) {
    let next = 0;
    const look = () => {
      while (next < this.length) act(this[next++]);
    };
    this.#waiting.add(look);
    look();
  }

  /** Resolves to item `n`, counted from zero. */
  async item(n, what = `item ${n}`) {
    await this.until(() => this.length > n, what);
    return this[n];
  }
}

/** A child process that says on its output where it listens. */
export class Process {
  #child;
  #exited;
  /** Its lines on stdout and stderr. */
  output = new Log();

  /** Starts `command` and waits until every one of `names` stands before a word at the begin of a line. */
  async spawn(command, args, names, env = {}) {
    const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
      child.once('error', (error) => resolve({ code: error.message, signal: null }));
    });
    for (const stream of [child.stdout, child.stderr]) {
      createInterface(stream).on('line', (line) => this.output.add(line));
    }
    const early = this.#exited.then(({ code, signal }) => {
      throw new Error(`${command} ${args[0]} ended with ${code ?? signal}:\n${this.output.join('\n')}`);
    });
    const ready = this.output.until(() => names.every((name) => this.said(name)), `${args[0]} that says where it listens`);
    await Promise.race([ready, early]);
    early.catch(() => {});
    return this;
  }

  /** Resolves to the first line, however long it takes; fails when the process ends before it. */
  async line() {
    await Promise.race([new Promise((resolve) => { this.output.each(resolve); }), this.#exited]);
    if (this.output.length === 0) throw new Error('the process ended without a word');
    return this.output[0];
  }

  /** The word after `name` where it begins a line of the output. */
  said(name) {
    return this.output.map((line) => new RegExp(`^\\s*${name}\\s+(\\S+)`).exec(line)?.[1]).find(Boolean);
  }

  /** Stops the process as an operator would; resolves to its exit code. */
  async stop() {
    this.#child.kill('SIGTERM');
    return (await this.#exited).code;
  }

  /** Kills the process, which has no chance to say good-bye. */
  async kill() {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }
}

/** A running `footbridge dev`. */
export class Node extends Process {
  /** Starts a node and waits until it says where it listens. */
  static async start({ listen = '127.0.0.1:0', env = {}, options = [] } = {}) {
    const node = new Node();
    const args = ['dev', '--listen', listen, '--admin', '127.0.0.1:0', '--grpc', '127.0.0.1:0', ...options];
    // Nothing of one test waits for another.
    const alone = { FOOTBRIDGE_INBOX__STORE: 'memory', ...env };
    await node.spawn(program(), args, ['Console', 'WebSocket', 'Admin'], alone);
    node.console = node.said('Console');
    node.url = node.said('WebSocket');
    node.admin = node.said('Admin');
    return node;
  }

  /** Address and port that clients connect to. */
  get address() {
    return new URL(this.console).host;
  }
}
