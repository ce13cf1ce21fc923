// Parallel coordinates: a line for each run across several axes, and a range of values on each axis.

import { element, svgElement } from "../shared/dom.js";
import { exactValue } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { endsOf, factAxis, movedRange, rangeBetween } from "./fact_axis.js";
import { heading, HEIGHT, label, line, short, titled } from "./fact_svg.js";

// In pixels.
const TOP = 44;
const BOTTOM = HEIGHT - 20;
const LENGTH = BOTTOM - TOP;
// A finger or pointer may be this far beside or beyond an axis.
const REACH = 12;
// A shorter movement is a click.
const CLICK = 4;
const ARROWS = { ArrowUp: 1, ArrowDown: -1 };

export class ParallelChart {
  #place;
  #onRange;
  #picture = null;
  #lines = svgElement("g", {});
  #handles = svgElement("g", {});
  // By key: {root, band, hit, axis, range}. They stay while lines are drawn again, because one may have the focus.
  #parts = new Map();

  /** `onRange(key, range)` is called with the new range of an axis; null for none. */
  constructor(place, onRange) {
    this.#place = place;
    this.#onRange = onRange;
  }

  /**
   * Draw `runs`, [{place, id, colour, width, label}], of which later ones are above, over the facts `axes`; `ranges` has
   * [low, high] by key.
   */
  paint(axes, runs, ranges, width) {
    if (axes.length < 2) {
      this.#picture = null;
      this.#place.replaceChildren(element("p", { class: "none", text: gettext("Choose at least two axes.") }));
      return;
    }
    const scales = axes.map((fact) => factAxis(runs.map(({ place }) => fact.values[place]), spansDecades(fact.values)));
    const left = (index) => 20 + (index * (width - 90)) / (axes.length - 1);
    const lines = runs.map((run) => {
      const places = axes.map((fact, index) => [left(index), scales[index].place(fact.values[run.place])]);
      const points = places.filter(([, at]) => at !== null).map(([x, at]) => `${x},${top(at)}`).join(" ");
      const drawn = svgElement("polyline", { points, fill: "none", stroke: run.colour, "stroke-width": run.width, "data-line": run.id });
      drawn.append(titled(run.label));
      return drawn;
    });
    const frame = axes.flatMap((fact, index) => [
      line(left(index), top(0), left(index), top(1)),
      // In two rows, so that the names of neighbours do not overlap.
      heading(left(index), index % 2 ? 28 : 13, fact.title, 2 * (left(1) - left(0)), width),
      ...scales[index].ticks.map(({ at, text }) => label(left(index) + 6, top(at) + 4, short(text), "start")),
    ]);
    this.#lines.replaceChildren(...lines, ...frame);
    axes.forEach((fact, index) => this.#paintAxis(fact, scales[index], ranges.get(fact.key) ?? null, left(index)));
    this.#arrange(axes.map(({ key }) => key));
    this.#show(axes, runs.length, width);
  }

  #show(axes, count, width) {
    if (!this.#picture) {
      // Not an image, because its axes are controls.
      this.#picture = svgElement("svg", { role: "group", "data-testid": "parallel", height: HEIGHT }, this.#lines, this.#handles);
      this.#place.replaceChildren(this.#picture);
    }
    const names = axes.map(({ title }) => title).join(", ");
    this.#picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.#picture.setAttribute("aria-label", fill(gettext("Parallel coordinates of {count} runs: {names}"), { count, names }));
  }

  /** Put the axes in their order, only if it changed: an element that is moved loses the focus. */
  #arrange(keys) {
    for (const key of this.#parts.keys()) if (!keys.includes(key)) this.#parts.delete(key);
    const wanted = keys.map((key) => this.#parts.get(key).root);
    const present = [...this.#handles.children];
    if (wanted.length !== present.length || wanted.some((root, index) => root !== present[index]))
      this.#handles.replaceChildren(...wanted);
  }

  #paintAxis(fact, axis, range, x) {
    if (!this.#parts.has(fact.key)) this.#parts.set(fact.key, this.#newPart(fact.key));
    const part = this.#parts.get(fact.key);
    Object.assign(part, { axis, range });
    const [from, to] = endsOf(axis, range);
    set(part.hit, { x: x - REACH, y: TOP - REACH, width: 2 * REACH, height: LENGTH + 2 * REACH });
    set(part.band, { x: x - 5, y: top(to), width: 10, height: Math.max(2, top(from) - top(to)), visibility: range ? "visible" : "hidden" });
    const text = range ? rangeText(range) : gettext("all values");
    const name = fill(gettext("Range of {name}"), { name: fact.title });
    const percent = Math.round(to * 100);
    set(part.root, { "aria-label": name, "aria-valuetext": text, "aria-valuenow": percent });
    part.title.textContent = fill(gettext("{name}: drag to select runs, or use ↑ and ↓, with Shift for the lower end; a click or Escape selects all"), { name: fact.title });
  }

  #newPart(key) {
    const title = titled("");
    const hit = svgElement("rect", { class: "axis-hit" }, title);
    const band = svgElement("rect", { class: "axis-range", rx: 2 });
    const slider = { role: "slider", tabindex: 0, "aria-orientation": "vertical", "aria-valuemin": 0, "aria-valuemax": 100 };
    const root = svgElement("g", { ...slider, class: "fact-axis", "data-axis": key }, hit, band);
    const part = { root, band, hit, title };
    root.addEventListener("keydown", (event) => this.#key(event, key, part));
    this.#follow(key, part);
    return part;
  }

  #key(event, key, part) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" || event.key === "Delete") {
      if (part.range) this.#onRange(key, null);
    } else if (ARROWS[event.key]) {
      this.#onRange(key, movedRange(part.axis, part.range, !event.shiftKey, ARROWS[event.key]));
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Select the range along which a pointer is dragged, and all values with a click. */
  #follow(key, part) {
    let begun = null;
    const placeAt = (event) => {
      const box = part.hit.getBoundingClientRect();
      return (((box.bottom - event.clientY) / box.height) * (LENGTH + 2 * REACH) - REACH) / LENGTH;
    };
    part.root.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      begun = { at: placeAt(event), y: event.clientY, range: part.range, isClick: true };
      part.root.setPointerCapture(event.pointerId);
    });
    part.root.addEventListener("pointermove", (event) => {
      if (!begun || (begun.isClick && Math.abs(event.clientY - begun.y) < CLICK)) return;
      begun.isClick = false;
      const at = placeAt(event);
      const range = rangeBetween(part.axis, Math.min(at, begun.at), Math.max(at, begun.at));
      if (range !== undefined) this.#onRange(key, range);
    });
    part.root.addEventListener("pointerup", () => {
      if (begun?.isClick) this.#onRange(key, null);
      begun = null;
    });
    part.root.addEventListener("pointercancel", () => {
      if (begun) this.#onRange(key, begun.range);
      begun = null;
    });
  }
}

function top(at) {
  return BOTTOM - at * LENGTH;
}

function rangeText([low, high]) {
  const [from, to] = [low, high].map((end) => (typeof end === "number" ? exactValue(end) : end));
  if (low === null) return fill(gettext("up to {to}"), { to });
  return high === null ? fill(gettext("{from} or more"), { from }) : fill(gettext("{from} to {to}"), { from, to });
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes))
    if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Return whether values span several decades, such as learning rates, for which a log axis is better. */
function spansDecades(values) {
  const numbers = values.filter((value) => typeof value === "number");
  return numbers.length > 0 && Math.min(...numbers) > 0 && Math.max(...numbers) >= 30 * Math.min(...numbers);
}
