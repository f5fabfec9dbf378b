// Small charts: a number now, and a line of what it was.
//
// What always holds: a chart keeps the last POINTS points, whatever the page does.

const SVG = "http://www.w3.org/2000/svg";

/** Points that are kept: four minutes, at one each two seconds. */
const POINTS = 120;
/** Points that the width stands for at least. */
const FEWEST = 15;
const WIDTH = 120;
const HEIGHT = 28;

function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export class Chart {
  #points = [];
  #value = document.createElement("strong");
  #line = svg("polyline", { class: "line-of" });
  #area = svg("polygon", { class: "area-of" });
  #most = document.createElement("small");
  #text;
  element = document.createElement("figure");

  /** `text` makes a number one that is read. */
  constructor(title, text) {
    this.#text = text;
    const caption = document.createElement("figcaption");
    caption.textContent = title;
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    picture.append(this.#area, this.#line);
    this.element.className = "tile";
    this.element.append(caption, this.#value, picture, this.#most);
  }

  add(value) {
    this.#points.push(value);
    if (this.#points.length > POINTS) this.#points.shift();
    const most = Math.max(...this.#points);
    this.#value.textContent = this.#text(value);
    this.#most.textContent = `most ${this.#text(most)}`;
    const step = WIDTH / (Math.max(this.#points.length, FEWEST) - 1);
    const start = WIDTH - step * (this.#points.length - 1);
    const place = (point, n) => {
      const y = HEIGHT - 1 - (most > 0 ? point / most : 0) * (HEIGHT - 3);
      return `${(start + n * step).toFixed(1)},${y.toFixed(1)}`;
    };
    const line = this.#points.map(place).join(" ");
    this.#line.setAttribute("points", line);
    this.#area.setAttribute("points", `${start.toFixed(1)},${HEIGHT} ${line} ${WIDTH},${HEIGHT}`);
  }
}
