// The console: speaks STOMP to the node it came from, and shows what the node holds.
//
// The parts are modules beside it: `element` and `feed` what the page is made of, `row` what arrives, `connection`
// the client, `view` and `views` what the node says of itself, `chart` the lines in it.

import { Connection } from "./console/connection.js";
import { at, make } from "./console/element.js";
import { Feed } from "./console/feed.js";
import { eventRow, messageRow, wireRow, wireText } from "./console/row.js";
import { begin } from "./console/views.js";

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

/** What cannot be changed while there is a connection. */
const CREDENTIALS = ["transport", "url", "login", "passcode", "token"];

const messages = new Feed(at("messages"));
const wire = new Feed(at("wire"));
let arrived = 0;
/** The path at which the node speaks STOMP. */
let endpoint = "/ws";

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
    for (const id of CREDENTIALS) at(id).disabled = active;
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
    messages.add(messageRow, new Date(), message, subscription.ack !== "auto", reply);
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
    ...(subscription.ack === "auto" ? [] : [make("span", { class: "count" }, `ack:${subscription.ack}`)]),
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

/** Begins an answer to a message: to where it wants one, or else to where it came from. */
function reply({ headers }) {
  at("send-destination").value = headers["reply-to"] ?? headers.destination ?? "";
  const correlation = headers["correlation-id"];
  at("send-headers").value = correlation ? `correlation-id:${correlation}` : "";
  at("send-details").open = correlation !== undefined;
  at("send-body").focus();
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

const isSockJs = () => at("transport").value === "sockjs";

/** The URL of this node's endpoint. */
function ownUrl() {
  const secure = location.protocol === "https:" ? "s" : "";
  return `${isSockJs() ? "http" : "ws"}${secure}://${location.host}${endpoint}`;
}

/** Fetches the client of SockJS, once somebody wants it. */
function loadSockJs() {
  if (globalThis.SockJS) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const script = make("script", { src: "/console/sockjs.min.js", onload: resolve, onerror: reject });
    document.head.append(script);
  });
}

/** Why a connection could not even be tried at `text`, or "". */
function urlProblem(text) {
  const url = URL.canParse(text) ? new URL(text) : null;
  const scheme = isSockJs() ? "http" : "ws";
  if (![`${scheme}:`, `${scheme}s:`].includes(url?.protocol)) {
    return `The URL must begin with ${scheme}:// or ${scheme}s://`;
  }
  if (url.hash) return "The URL must not have a # in it";
  if (location.protocol === "https:" && url.protocol === `${scheme}:`) {
    return `This page came by https, so the URL must begin with ${scheme}s://`;
  }
  return "";
}

/** What an example may send to: where no application is, a SEND to it would end the session. */
let sample = "/topic/public";

function exampleText() {
  const login = at("login").value;
  const lines = [
    `// npm install @stomp/stompjs${isSockJs() ? " sockjs-client" : ""}`,
    "import { Client } from '@stomp/stompjs';",
    ...(isSockJs() ? ["import SockJS from 'sockjs-client';"] : []),
    "",
    "const client = new Client({",
    isSockJs()
      ? `  webSocketFactory: () => new SockJS(${JSON.stringify(at("url").value)}),`
      : `  brokerURL: ${JSON.stringify(at("url").value)},`,
    ...(login ? [`  connectHeaders: { login: ${JSON.stringify(login)} },`] : []),
    "  onConnect: () => {",
    "    client.subscribe('/topic/public', (message) => {",
    "      console.log(message.body);",
    "    });",
    "    client.publish({",
    `      destination: '${sample}',`,
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

on("connection", "submit", async (submit) => {
  submit.preventDefault();
  if (connection.active) return connection.disconnect();
  const url = at("url").value.trim();
  problem(urlProblem(url));
  if (urlProblem(url)) return;
  const headers = {};
  if (at("login").value) headers.login = at("login").value;
  if (at("passcode").value) headers.passcode = at("passcode").value;
  if (at("token").value.trim()) headers.Authorization = `Bearer ${at("token").value.trim()}`;
  if (isSockJs()) {
    try {
      await loadSockJs();
    } catch {
      return problem("The client of SockJS cannot be loaded");
    }
  }
  connection.connect(url, headers);
});

on("transport", "change", () => {
  at("url").value = ownUrl();
  showExample();
});

on("subscribe", "submit", (submit) => {
  submit.preventDefault();
  connection.subscribe(at("subscribe-destination").value.trim(), at("subscribe-ack").value);
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

at("url").value = ownUrl();
showExample();
const about = await begin();
if (about?.has_application) {
  sample = "/app/message";
  at("quick-send").hidden = false;
  showExample();
}
if (about && about.path !== endpoint) {
  const was = ownUrl();
  endpoint = about.path;
  if (at("url").value === was) at("url").value = ownUrl();
  showExample();
}
