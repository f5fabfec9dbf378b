// Clients: stock stomp.js over `ws` as Session, and Raw, which sends whatever bytes a test wants.

import { Client } from '@stomp/stompjs';
import WebSocket from 'ws';
import { Log } from './node.mjs';

// As in a browser: stomp.js finds its WebSocket among the globals.
globalThis.WebSocket = WebSocket;

let names = 0;

/** A name that no other test uses. */
export function unique(name) {
  names += 1;
  return `${name}-${process.pid}-${names}`;
}

/** A stock client and what it was told. */
export class Session {
  /** CONNECTED frames, one for each connection. */
  connected = new Log();
  /** ERROR frames. */
  errors = new Log();
  /** Close events. */
  closed = new Log();
  /** Heart-beats received. */
  beats = new Log();
  /** What stomp.js says that it does. */
  debug = new Log();

  constructor(url, options = {}) {
    const { onConnect = () => {}, ...rest } = options;
    this.client = new Client({
      brokerURL: url,
      reconnectDelay: 0,
      debug: (line) => this.debug.add(line),
      onConnect: (frame) => {
        onConnect(this, frame);
        this.connected.add(frame);
      },
      onStompError: (frame) => this.errors.add(frame),
      onWebSocketClose: (event) => this.closed.add(event),
      onHeartbeatReceived: () => this.beats.add(true),
      ...rest,
    });
  }

  /** A connected session that ends with the test `t`. */
  static async connect(t, url, options) {
    const session = new Session(url, options);
    t.after(() => session.client.deactivate({ force: true }));
    session.client.activate();
    await session.connected.item(0, 'CONNECTED');
    return session;
  }

  /** The headers of the last CONNECTED. */
  get headers() {
    return this.connected[this.connected.length - 1].headers;
  }

  /** Subscribes and waits for the receipt; resolves to the messages, with `subscription`. */
  async subscribe(destination, headers = {}) {
    const messages = new Log();
    await this.receipted((receipt) => {
      const receive = (message) => messages.add(message);
      messages.subscription = this.client.subscribe(destination, receive, { ...headers, ...receipt });
    });
    return messages;
  }

  /** Publishes and waits for the receipt. */
  async publish(destination, body, headers = {}) {
    const content = typeof body === 'string' ? { body } : { binaryBody: body };
    await this.receipted((receipt) => {
      this.client.publish({ destination, ...content, headers: { ...headers, ...receipt } });
    });
  }

  /** Calls `send` with a `receipt` header to send along, and waits for the RECEIPT frame. */
  async receipted(send) {
    const receipt = unique('receipt');
    const received = new Log();
    this.client.watchForReceipt(receipt, (frame) => received.add(frame));
    send({ receipt });
    return received.item(0, `the receipt ${receipt}`);
  }

  /**
   * Calls `send` with a `receipt` header to send along, for which an ERROR comes instead; resolves to its
   * text, from the body because stomp.js unescapes no headers of 1.1, and the close code after it.
   */
  async refused(send) {
    const receipt = unique('receipt');
    send({ receipt });
    const { headers, body } = await this.errors.item(0, 'an ERROR');
    if (headers['receipt-id'] !== receipt) throw new Error(`ERROR for ${headers['receipt-id']}, not ${receipt}: ${body}`);
    const { code } = await this.closed.item(0, 'the close after an ERROR');
    return { message: body, code };
  }

  /** Breaks the connection without a word. */
  break() {
    this.client.webSocket.terminate();
  }
}

/** The bodies of messages. */
export function bodies(messages) {
  return Array.from(messages, (message) => message.body);
}

/** A STOMP 1.2 frame as text; headers are not escaped. */
export function frame(command, headers = {}, body = '') {
  const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
  return `${command}\n${lines.join('')}\n${body}\0`;
}

/** A WebSocket that a test writes bytes to. */
export class Raw {
  /** Frames received: command, headers (unescaped), body (a Buffer), and whether it came as binary. */
  frames = new Log();
  /** Heart-beats received. */
  beats = new Log();
  /** Close codes and reasons. */
  closed = new Log();

  /** An open WebSocket that ends with the test `t`; nothing is said yet. */
  static async open(t, url, options = {}) {
    const raw = new Raw();
    const socket = new WebSocket(url, ['v12.stomp'], options);
    raw.socket = socket;
    t.after(() => socket.terminate());
    socket.on('message', (bytes, binary) => {
      if (bytes.toString() === '\n') raw.beats.add(true);
      else raw.frames.add(parse(bytes, binary));
    });
    socket.on('close', (code, reason) => raw.closed.add({ code, reason: reason.toString() }));
    socket.on('error', () => {});
    const opened = new Log();
    socket.on('open', () => opened.add(true));
    await opened.item(0, 'an open WebSocket');
    return raw;
  }

  /** As `open`, after CONNECT and CONNECTED. */
  static async connect(t, url, headers = {}, options = {}) {
    const raw = await Raw.open(t, url, options);
    raw.send(frame('CONNECT', { 'accept-version': '1.2', host: 'test', ...headers }));
    const { command } = await raw.frames.item(0, 'CONNECTED');
    if (command !== 'CONNECTED') throw new Error(`${command} instead of CONNECTED`);
    return raw;
  }

  send(bytes, options) {
    this.socket.send(bytes, options);
  }

  /** The first frame of that command. */
  async received(command) {
    await this.frames.until((frames) => frames.some((frame) => frame.command === command), command);
    return this.frames.find((frame) => frame.command === command);
  }
}

const ESCAPES = { '\\n': '\n', '\\r': '\r', '\\c': ':', '\\\\': '\\' };

function parse(bytes, binary) {
  const end = bytes.indexOf('\n\n');
  const [command, ...lines] = bytes.subarray(0, end).toString().split('\n');
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    // The first of repeated headers wins.
    headers[line.slice(0, colon)] ??= line.slice(colon + 1).replace(/\\./g, (escape) => ESCAPES[escape]);
  }
  return { command, headers, body: bytes.subarray(end + 2, bytes.length - 1), binary };
}
