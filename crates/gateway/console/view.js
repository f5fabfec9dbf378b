// A view: what the node says, asked for while it is looked at, and the login that it may need.
//
// What always holds
// - One request of a view is under way at a time, none while the page is hidden or another view is shown, and an
//   answer that comes after the user moved on is dropped.
// - What cannot be had is said, and asked for again.

import { at, make } from "./element.js";

/** How long after an answer a view asks again. */
const EVERY_MS = 2000;

/** An answer that is none. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function answered(request) {
  let answer;
  let json;
  try {
    answer = await request;
    json = await answer.json();
  } catch {
    throw new Refused(0, "The node does not answer");
  }
  if (!answer.ok) throw new Refused(answer.status, json.error ?? `The node answers ${answer.status}`);
  return json;
}

/** What the node says at `/console/<name>`. */
export function get(name, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  return answered(fetch(`/console/${name}${query ? `?${query}` : ""}`));
}

export function post(name, body) {
  const headers = { "content-type": "application/json" };
  return answered(fetch(`/console/${name}`, { method: "POST", headers, body: JSON.stringify(body) }));
}

export class View {
  #look;
  #timer = null;
  #turn = 0;
  #shown = false;

  /** `look(stays)` asks and shows; what `stays()` says is whether it may show yet. */
  constructor(name, look, loginNeeded) {
    this.name = name;
    this.#look = look;
    this.loginNeeded = loginNeeded;
    document.addEventListener("visibilitychange", () => this.now());
  }

  show(shown) {
    this.#shown = shown;
    at(this.name).hidden = !shown;
    this.now();
  }

  /** Asks at once, in place of what is under way. */
  async now() {
    clearTimeout(this.#timer);
    this.#turn += 1;
    const turn = this.#turn;
    if (!this.#shown || document.hidden) return;
    const stays = () => turn === this.#turn;
    let said = "";
    try {
      await this.#look(stays);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      said = error.message;
      if (error.status === 401 && stays()) return this.loginNeeded();
    }
    if (!stays()) return;
    at(`${this.name}-said`).textContent = said;
    this.#timer = setTimeout(() => this.now(), EVERY_MS);
  }
}

/** A table of rows, each a list of cells that are texts or elements; what is none says so. */
export function table(heads, rows, none) {
  if (rows.length === 0) return make("p", { class: "hint none" }, none);
  const cell = (content, n) => make("td", { "data-head": heads[n] }, content ?? "");
  return make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map(cell)))));
}

/**
 * Puts `elements` in place of what is at `id`, unless nothing would change or something of it is selected. The
 * focus stays where it was among the buttons.
 */
export function put(id, ...elements) {
  const old = at(id);
  const fresh = old.cloneNode(false);
  fresh.append(...elements);
  const selection = getSelection();
  const isSelected = !selection.isCollapsed && old.contains(selection.anchorNode);
  if (isSelected || fresh.isEqualNode(old)) return;
  const focused = [...old.querySelectorAll("button")].indexOf(document.activeElement);
  old.replaceChildren(...fresh.childNodes);
  if (focused >= 0) old.querySelectorAll("button")[focused]?.focus();
}
