// The console: a page that speaks STOMP to the node it came from.
//
// What always holds
// - Whatever a message, a frame or a server says reaches the page as text (textContent), never as
//   markup.
// - Every list is bounded: the last ROWS are kept, and what comes faster than the page is painted
//   waits in a list of that length as well.
// - The subscriptions are the user's: they are made again after every reconnect, until the user or
//   the server ends them.
//
// In order: words, elements, Feed (a bounded list), rows, Connection (the client), the page.

const { Client, Versions } = globalThis.StompJs;

/** Rows that a list keeps. */
const ROWS = 500;
/** Characters of a body that are shown at once; of a wire frame, that are kept at all. */
const SHOWN = 4096;
const RECONNECT_MS = 2000;

const CLOSE_CODES = {
  1000: "normal", 1001: "the node is stopping", 1002: "protocol error", 1005: "no code",
  1006: "the connection broke or was refused", 1007: "invalid UTF-8", 1009: "too big",
  1011: "internal error", 1013: "overload or broker unavailable", 4401: "unauthenticated",
  4403: "forbidden", 4408: "timed out", 4429: "limit reached", 4500: "slow consumer",
};

/** What ended a connection. The close frame's reason repeats the ERROR, as far as it has room. */
function endText({ code, reason }, error) {
  const meaning = CLOSE_CODES[code] ?? "unknown";
  if (error) return `${error} (close code ${code}, ${meaning})`;
  return `Closed: close code ${code}, ${reason || meaning}`;
}

function count(n, noun) {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}

function clockText(date) {
  const two = (n) => String(n).padStart(2, "0");
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return `${time}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

// Elements

const at = (id) => document.getElementById(id);

/** An element with attributes (`on…` are listeners) and children, strings being text. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A bounded list, newest first. Rows are made when the page is painted and the list is shown. */
class Feed {
  #list;
  #waiting = [];
  #scheduled = false;

  constructor(list) {
    this.#list = list;
  }

  add(makeRow, ...data) {
    this.#waiting.push([makeRow, data]);
    if (this.#waiting.length > ROWS) this.#waiting.shift();
    this.#schedule();
  }

  show(shown) {
    this.#list.hidden = !shown;
    this.#schedule();
  }

  clear() {
    this.#waiting = [];
    this.#list.replaceChildren();
  }

  #schedule() {
    if (this.#scheduled || this.#list.hidden || this.#waiting.length === 0) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      this.#list.prepend(...this.#waiting.map(([makeRow, data]) => makeRow(...data)).reverse());
      this.#waiting = [];
      while (this.#list.childElementCount > ROWS) this.#list.lastElementChild.remove();
    });
  }
}

// Rows

function messageRow(date, message) {
  const { destination, ...headers } = message.headers;
  const names = Object.keys(headers);
  const list = make("dl", { class: "headers", hidden: "" });
  for (const name of names) list.append(make("dt", {}, name), make("dd", {}, headers[name]));
  const toggle = make("button", { type: "button", "aria-expanded": "false", onclick() {
    list.hidden = !list.hidden;
    toggle.setAttribute("aria-expanded", String(!list.hidden));
  } }, count(names.length, "header"));
  return make("li", { class: "message" },
    make("div", { class: "line" },
      make("time", { datetime: date.toISOString() }, clockText(date)),
      make("span", { class: "destination" }, destination ?? ""),
      make("span", { class: "count" }, count(message.binaryBody.length, "byte")),
      toggle),
    ...bodyParts(message),
    list);
}

function bodyParts(message) {
  if (message.binaryBody.length === 0) return [make("p", { class: "body none" }, "empty body")];
  const text = bodyText(message);
  const body = make("pre", { class: "body" }, text.slice(0, SHOWN));
  if (text.length <= SHOWN) return [body];
  const more = make("button", { type: "button", class: "more", onclick() {
    body.textContent = text;
    more.remove();
  } }, `Show ${count(text.length - SHOWN, "more character")}`);
  return [body, more];
}

/** The body as one can read it: JSON indented, bytes that are no text in hexadecimal. */
function bodyText({ binaryBody, headers }) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(binaryBody);
  } catch {
    return Array.from(binaryBody, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  }
  const looksLikeJson = /json/i.test(headers["content-type"] ?? "") || /^\s*[[{]/.test(text);
  if (!looksLikeJson) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function eventRow(date, text, kind) {
  return make("li", { class: `event ${kind}` },
    make("time", { datetime: date.toISOString() }, clockText(date)), make("span", {}, text));
}

function wireRow(date, way, text) {
  const beat = text === "\n";
  return make("li", { class: `wire ${way} ${beat ? "beat" : ""}` },
    make("time", { datetime: date.toISOString() }, clockText(date)),
    make("span", { class: "way", title: way === "out" ? "sent" : "received" },
      way === "out" ? "↑" : "↓"),
    make("pre", {}, beat ? "heart-beat" : text));
}

/** What went over the wire, NULs as the specification shows them. */
function wireText(bytes) {
  const cut = bytes.slice(0, SHOWN);
  const text = typeof cut === "string" ? cut : new TextDecoder().decode(cut);
  const rest = (bytes.length ?? bytes.byteLength) - SHOWN;
  return text.replaceAll("\0", "^@") + (rest > 0 ? `… and ${count(rest, "more byte")}` : "");
}

/** The STOMP client and the subscriptions it should have. Tells `listener` what happens. */
class Connection {
  #listener;
  #client = null;
  /** id -> { id, destination, received, live, handle } */
  #subscriptions = new Map();
  #numbers = 0;
  #error = null;
  #greeted = false;
  #attempt = 0;

  constructor(listener) {
    this.#listener = listener;
  }

  get active() {
    return this.#client !== null;
  }

  get connected() {
    return this.#client?.connected ?? false;
  }

  get subscriptions() {
    return [...this.#subscriptions.values()];
  }

  /** Connects, and connects again whenever the connection is lost. */
  connect(url, login, passcode) {
    const connectHeaders = {};
    if (login) connectHeaders.login = login;
    if (passcode) connectHeaders.passcode = passcode;
    this.#attempt = 0;
    const client = new Client({
      webSocketFactory: () => this.#open(url),
      connectHeaders,
      reconnectDelay: RECONNECT_MS,
      onConnect: (frame) => this.#connected(frame),
      onStompError: (frame) => this.#failed(frame),
      onWebSocketClose: (event) => this.#closed(client, event),
    });
    this.#client = client;
    client.activate();
  }

  async disconnect() {
    const client = this.#client;
    this.#client = null;
    this.#withoutHandles();
    this.#listener.state("closed");
    // Half-open or not, a connection that is not up yet has nothing to say good-bye to.
    await client?.deactivate({ force: !client.connected });
  }

  subscribe(destination) {
    const id = `console-${this.#numbers++}`;
    const subscription = { id, destination, received: 0, live: false, handle: null };
    this.#subscriptions.set(id, subscription);
    if (this.connected) this.#make(subscription);
    this.#listener.subscriptions();
  }

  unsubscribe({ id, handle }) {
    handle?.unsubscribe();
    this.#subscriptions.delete(id);
    this.#listener.subscriptions();
  }

  /** Sends, and calls `confirmed` when the node says that it has the message. */
  send(destination, body, headers, confirmed) {
    const receipt = `send-${this.#numbers++}`;
    this.#client.watchForReceipt(receipt, confirmed);
    this.#client.publish({ destination, body, headers: { ...headers, receipt } });
  }

  /** A WebSocket whose traffic the listener sees. */
  #open(url) {
    this.#error = null;
    this.#greeted = false;
    this.#attempt += 1;
    this.#listener.state("connecting", this.#attempt);
    const socket = new WebSocket(url, Versions.default.protocolVersions());
    const send = socket.send;
    socket.send = (bytes) => {
      this.#listener.wire("out", bytes);
      send.call(socket, bytes);
    };
    socket.addEventListener("message", ({ data }) => this.#listener.wire("in", data));
    return socket;
  }

  #connected(frame) {
    this.#greeted = true;
    this.#attempt = 0;
    this.#listener.state("open", frame.headers);
    this.#subscriptions.forEach((subscription) => this.#make(subscription));
  }

  #make(subscription) {
    const receipt = `subscribe-${subscription.id}`;
    this.#client.watchForReceipt(receipt, () => {
      subscription.live = subscription.handle !== null;
      this.#listener.subscriptions();
    });
    subscription.handle = this.#client.subscribe(subscription.destination, (message) => {
      subscription.received += 1;
      this.#listener.message(subscription, message);
    }, { id: subscription.id, ack: "auto", receipt });
  }

  #failed({ headers, body }) {
    this.#error = headers.message || body || "ERROR without a message";
    // What the server refused once is not asked for again.
    const refused = /^subscribe-(.*)$/.exec(headers["receipt-id"] ?? "");
    if (refused) this.#subscriptions.delete(refused[1]);
  }

  #closed(client, event) {
    const error = this.#error;
    // The user left; by now there may be another client.
    if (client !== this.#client) return this.#listener.ended(event, error);
    this.#withoutHandles();
    // Refused at the door: it would be refused again.
    const refused = error !== null && !this.#greeted;
    if (refused) {
      client.deactivate();
      this.#client = null;
    }
    this.#listener.state(refused ? "refused" : "waiting", this.#attempt + 1);
    this.#listener.ended(event, error);
  }

  #withoutHandles() {
    for (const subscription of this.#subscriptions.values()) {
      subscription.live = false;
      subscription.handle = null;
    }
    this.#listener.subscriptions();
  }
}

// The page

const messages = new Feed(at("messages"));
const wire = new Feed(at("wire"));
let arrived = 0;

const connection = new Connection({
  state(state, detail) {
    const tries = detail > 1 ? `, try ${detail}` : "";
    at("state").dataset.state = state;
    at("state").textContent = {
      closed: () => "Not connected",
      connecting: () => `Connecting${tries}`,
      open: () => "Connected",
      waiting: () => `Reconnecting${tries}`,
      refused: () => "Refused",
    }[state]();
    at("session").textContent = "";
    if (state === "open") {
      const { version, "user-name": user, server } = detail;
      at("session").textContent = `as ${user ?? "nobody"}, STOMP ${version}`;
      event(`Connected as ${user ?? "nobody"}, STOMP ${version}, ${server ?? "unnamed server"}`);
    }
    const { active, connected } = connection;
    at("connect").textContent = active ? (connected ? "Disconnect" : "Stop") : "Connect";
    at("connect").toggleAttribute("data-stop", active);
    for (const id of ["send-button", "quick-send"]) at(id).disabled = !connected;
    for (const id of ["url", "login", "passcode"]) at(id).disabled = active;
  },

  /** The WebSocket is closed; `error` is what an ERROR frame said before. */
  ended(closed, error) {
    at("sent").textContent = "";
    const text = endText(closed, error);
    // A client that closes first is told no code: 1005.
    const bad = error !== null || ![1000, 1005].includes(closed.code);
    event(text, bad && "bad");
    // While it tries again, one line is enough.
    if (bad && (error || at("problem").hidden)) problem(text);
  },

  subscriptions() {
    at("subscriptions").replaceChildren(...connection.subscriptions.map(subscriptionRow));
  },

  message(subscription, message) {
    messages.add(messageRow, new Date(), message);
    showArrived(arrived + 1);
    const shown = at(`received-${subscription.id}`);
    if (shown) shown.textContent = subscription.received.toLocaleString("en");
  },

  wire(way, bytes) {
    wire.add(wireRow, new Date(), way, wireText(bytes));
  },
});

function event(text, kind) {
  messages.add(eventRow, new Date(), text, kind || "");
}

function showArrived(n) {
  arrived = n;
  at("message-count").textContent = n.toLocaleString("en");
  at("empty").hidden = n > 0 || at("messages").hidden;
}

function problem(text) {
  at("problem-text").textContent = text;
  at("problem").hidden = text === "";
}

function subscriptionRow(subscription) {
  const { id, destination, received, live } = subscription;
  const name = make("code", {}, destination);
  if (!live) name.setAttribute("data-waiting", "");
  return make("li", {},
    name,
    make("span", { class: "count", id: `received-${id}`, title: "messages received" },
      live || received > 0 ? received.toLocaleString("en") : "not yet"),
    make("button", { type: "button", class: "icon", "aria-label": `Unsubscribe from ${destination}`,
      onclick: () => connection.unsubscribe(subscription) }, "×"));
}

function send(destination, body, headers = {}) {
  const since = performance.now();
  at("sent").textContent = `Sending to ${destination}`;
  connection.send(destination, body, headers, () => {
    const took = Math.max(1, Math.round(performance.now() - since));
    at("sent").textContent = `Sent to ${destination}, confirmed in ${took} ms`;
  });
}

/** Lines of name:value; throws an Error that says which line is not. */
function parseHeaders(text) {
  const headers = {};
  for (const line of text.split("\n").filter((line) => line.trim() !== "")) {
    const colon = line.indexOf(":");
    if (colon < 1) throw new Error(`"${line}" is no header: write name:value`);
    headers[line.slice(0, colon).trim()] = line.slice(colon + 1).trim();
  }
  return headers;
}

/** Why a WebSocket could not even be tried at `text`, or "". */
function urlProblem(text) {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!/^wss?:$/.test(url?.protocol ?? "")) return "The URL must begin with ws:// or wss://";
  if (url.hash) return "The URL must not have a # in it";
  if (location.protocol === "https:" && url.protocol === "ws:") {
    return "This page came by https, so the URL must begin with wss://";
  }
  return "";
}

function exampleText() {
  const login = at("login").value;
  const lines = [
    "// npm install @stomp/stompjs",
    "import { Client } from '@stomp/stompjs';",
    "",
    "const client = new Client({",
    `  brokerURL: ${JSON.stringify(at("url").value)},`,
    ...(login ? [`  connectHeaders: { login: ${JSON.stringify(login)} },`] : []),
    "  onConnect: () => {",
    "    client.subscribe('/topic/public', (message) => {",
    "      console.log(message.body);",
    "    });",
    "    client.publish({",
    "      destination: '/app/message',",
    "      body: 'Hello',",
    "    });",
    "  },",
    "  onStompError: (frame) => console.error(frame.headers.message),",
    "});",
    "client.activate();",
  ];
  return lines.join("\n");
}

function showExample() {
  at("example").textContent = exampleText();
}

async function copyExample() {
  try {
    await navigator.clipboard.writeText(at("example").textContent);
  } catch {
    // Only secure origins have a clipboard: elsewhere the text is selected, ready for the keys.
    getSelection().selectAllChildren(at("example"));
    at("copy").textContent = document.execCommand("copy") ? "Copied" : "Selected";
    return;
  }
  at("copy").textContent = "Copied";
}

function show(view) {
  for (const [name, feed] of [["messages", messages], ["wire", wire]]) {
    feed.show(name === view);
    at(`show-${name}`).setAttribute("aria-pressed", String(name === view));
  }
  showArrived(arrived);
}

function on(id, type, listener) {
  at(id).addEventListener(type, listener);
}

on("connection", "submit", (submit) => {
  submit.preventDefault();
  if (connection.active) return connection.disconnect();
  const url = at("url").value.trim();
  problem(urlProblem(url));
  if (!urlProblem(url)) connection.connect(url, at("login").value, at("passcode").value);
});

on("subscribe", "submit", (submit) => {
  submit.preventDefault();
  connection.subscribe(at("subscribe-destination").value.trim());
  at("subscribe-destination").select();
});

on("send", "submit", (submit) => {
  submit.preventDefault();
  try {
    const headers = parseHeaders(at("send-headers").value);
    const type = at("send-type").value.trim();
    if (type) headers["content-type"] = type;
    send(at("send-destination").value.trim(), at("send-body").value, headers);
    at("send-body").select();
  } catch (error) {
    at("sent").textContent = error.message;
  }
});

on("send-body", "keydown", (key) => {
  if (key.key !== "Enter" || key.shiftKey || key.isComposing) return;
  key.preventDefault();
  if (connection.connected) at("send").requestSubmit();
});

on("quick-subscribe", "click", () => connection.subscribe("/topic/public"));
on("quick-send", "click", () => send("/app/message", at("send-body").value || "Hello"));
on("problem-dismiss", "click", () => problem(""));
on("show-messages", "click", () => show("messages"));
on("show-wire", "click", () => show("wire"));
on("clear", "click", () => {
  if (at("messages").hidden) return wire.clear();
  messages.clear();
  showArrived(0);
});
on("copy", "click", copyExample);
for (const id of ["url", "login"]) on(id, "input", showExample);

at("url").value = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
showExample();
