// Rows of what arrives: messages, events, frames on the wire.

import { clockText, count, make } from "./element.js";

/** Characters of a body that are shown at once; of a wire frame, that are kept at all. */
const SHOWN = 4096;

/** `settle` is whether the client says what becomes of the message; `reply(message)` begins an answer. */
export function messageRow(date, message, settle, reply) {
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
      toggle,
      make("button", { type: "button", onclick: () => reply(message) }, "reply"),
      ...(settle ? settleButtons(message) : [])),
    ...bodyParts(message),
    list);
}

/** ACK and NACK; once one is sent there is nothing more to say. */
function settleButtons(message) {
  const said = make("span", { class: "count", hidden: "" });
  const button = (name, act) => make("button", { type: "button", onclick() {
    act();
    buttons.forEach((one) => one.remove());
    said.hidden = false;
    said.textContent = `${name} sent`;
  } }, name.toLowerCase());
  const buttons = [button("ACK", () => message.ack()), button("NACK", () => message.nack())];
  return [...buttons, said];
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

export function eventRow(date, text, kind) {
  return make("li", { class: `event ${kind}` },
    make("time", { datetime: date.toISOString() }, clockText(date)), make("span", {}, text));
}

export function wireRow(date, way, text) {
  const beat = text === "\n";
  return make("li", { class: `wire ${way} ${beat ? "beat" : ""}` },
    make("time", { datetime: date.toISOString() }, clockText(date)),
    make("span", { class: "way", title: way === "out" ? "sent" : "received" },
      way === "out" ? "↑" : "↓"),
    make("pre", {}, beat ? "heart-beat" : text));
}

/** What went over the wire, NULs as the specification shows them. */
export function wireText(bytes) {
  const cut = bytes.slice(0, SHOWN);
  const text = typeof cut === "string" ? cut : new TextDecoder().decode(cut);
  const rest = (bytes.length ?? bytes.byteLength) - SHOWN;
  return text.replaceAll("\0", "^@") + (rest > 0 ? `… and ${count(rest, "more byte")}` : "");
}
