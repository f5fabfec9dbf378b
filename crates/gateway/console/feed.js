// A bounded list: the last ROWS are kept, and what comes faster than the page is painted waits in a list of
// that length as well.

/** Rows that a list keeps. */
const ROWS = 500;

/** A bounded list, newest first. Rows are made when the page is painted and the list is shown. */
export class Feed {
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
