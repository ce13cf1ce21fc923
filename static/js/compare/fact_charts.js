// Parameters and metrics of the runs plotted against each other: a scatter chart, and parallel coordinates.

import { element, setText, svgElement } from "../shared/dom.js";
import { exactValue, fixed } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { faint, lineColour, palette } from "../shared/palette.js";
import { factAxis, rankCorrelation } from "./fact_axis.js";

// In pixels. Both charts are as wide as their container, which is narrow on a phone.
const HEIGHT = 340;
const NARROWEST = 300;
const ROOM = { left: 64, right: 20, top: 16, bottom: 44 };
const MOST_AXES = 8;
const LONGEST_TEXT = 16;
// The width of a letter in the font below, in pixels, rounded up.
const LETTER_WIDTH = 6.5;

export class FactCharts {
  #facts = [];
  #lines = [];
  #page;
  #looks;
  #root;
  #onChange;
  #version = 0;
  #width = NARROWEST;
  #changed = changeDetector();

  /**
   * `root` is the section with the selects named x and y, the checkboxes xlog and ylog, and the containers of both
   * charts. `chosen` is {x, y}, keys of facts, and {xlog, ylog}.
   */
  constructor(root, page, looks, chosen, onChange) {
    this.#root = root;
    this.#page = page;
    this.#looks = looks;
    this.#onChange = onChange;
    for (const name of ["x", "y"]) {
      this.#select(name).dataset.wanted = chosen[name] ?? "";
      this.#logOf(name).checked = chosen[`${name}log`];
    }
    root.addEventListener("input", () => {
      for (const name of ["x", "y"]) this.#select(name).dataset.wanted = this.#select(name).value;
      this.#version += 1;
      onChange();
    });
    new ResizeObserver(([entry]) => {
      this.#width = Math.max(NARROWEST, Math.floor(entry.contentRect.width));
      this.#version += 1;
      onChange();
    }).observe(root.querySelector("[data-slot=scatter]"));
    root.addEventListener("pointerover", (event) => looks.point(lineOf(event.target)));
    root.addEventListener("pointerleave", () => looks.point(null));
  }

  /** Return the chosen {x, y, xlog, ylog}; x and y are "" if nothing was chosen. */
  get chosen() {
    const [x, y] = ["x", "y"].map((name) => this.#select(name).dataset.wanted);
    return { x, y, xlog: this.#logOf("x").checked, ylog: this.#logOf("y").checked };
  }

  /** Show {facts, lines}: columns with a value for each run, and the line (run or group) of each run. */
  take({ facts, lines }) {
    this.#facts = facts;
    this.#lines = lines;
    this.#root.hidden = facts.length < 2 || lines.length < 2;
    const parameters = facts.filter((fact) => !fact.is_metric);
    const metrics = facts.filter((fact) => fact.is_metric);
    this.#offer("x", mostKnown(parameters) ?? metrics[0]);
    this.#offer("y", mostKnown(metrics) ?? parameters[1]);
    this.#version += 1;
    this.#onChange();
  }

  paint() {
    if (this.#root.hidden || !this.#root.open) return;
    if (!this.#changed(this.#version, this.#looks.version, palette.version)) return;
    this.#paintScatter();
    this.#paintParallel();
  }

  #select(name) {
    return this.#root.querySelector(`select[name=${name}]`);
  }

  #logOf(name) {
    return this.#root.querySelector(`input[name=${name}log]`);
  }

  #offer(name, usual) {
    const select = this.#select(name);
    const { wanted } = select.dataset;
    const keys = [...select.options].map((option) => option.value);
    // An open select must stay open while the values of live runs change.
    if (keys.join("\n") !== this.#facts.map(({ key }) => key).join("\n"))
      select.replaceChildren(...this.#facts.map(({ key, title }) => element("option", { value: key, text: title })));
    const isThere = this.#facts.some(({ key }) => key === wanted);
    select.value = isThere ? wanted : (usual?.key ?? "");
  }

  #factOf(name) {
    return this.#facts.find(({ key }) => key === this.#select(name).value);
  }

  /** Return the indices of runs whose line is shown. */
  #shown() {
    return this.#lines.flatMap((id, place) => (this.#looks.isShown(id) ? [place] : []));
  }

  #colourOf(id) {
    const place = this.#page.runs.findIndex((run) => run.id === id);
    const colour = lineColour(this.#looks.lookOf(place).colour);
    return this.#looks.isFaint(id) ? faint(colour, 0.2) : colour;
  }

  #paintScatter() {
    const [x, y] = [this.#factOf("x"), this.#factOf("y")];
    if (!x || !y) return;
    const shown = this.#shown();
    const valuesOf = (fact) => shown.map((place) => fact.values[place]);
    const across = factAxis(valuesOf(x), this.#logOf("x").checked);
    const up = factAxis(valuesOf(y), this.#logOf("y").checked);
    const left = (at) => ROOM.left + at * (this.#width - ROOM.left - ROOM.right);
    const top = (at) => HEIGHT - ROOM.bottom - at * (HEIGHT - ROOM.top - ROOM.bottom);
    const parts = [
      ...across.ticks.flatMap(({ at, text }) => [
        line(left(at), top(0), left(at), top(1)),
        label(left(at), HEIGHT - ROOM.bottom + 16, text, "middle"),
      ]),
      ...up.ticks.flatMap(({ at, text }) => [line(left(0), top(at), left(1), top(at)), label(ROOM.left - 8, top(at) + 4, text, "end")]),
      label(left(0.5), HEIGHT - 8, x.title, "middle"),
    ];
    let points = 0;
    for (const place of shown) {
      const [atX, atY] = [across.place(x.values[place]), up.place(y.values[place])];
      if (atX === null || atY === null) continue;
      points += 1;
      const id = this.#lines[place];
      const dot = svgElement("circle", { cx: left(atX), cy: top(atY), r: this.#looks.isNear(id) ? 8 : 5, fill: this.#colourOf(id), "data-line": id });
      dot.append(titled(`${this.#labelOf(id)}: ${x.title} ${exactValue(x.values[place])}, ${y.title} ${exactValue(y.values[place])}`));
      parts.push(dot);
    }
    const correlation = rankCorrelation(shown.map((place) => [x.values[place], y.values[place]]));
    const texts = [fill(gettext("{points} runs"), { points })];
    if (correlation !== null) texts.push(fill(gettext("rank correlation {value}"), { value: fixed(correlation, 2) }));
    setText(this.#root.querySelector("[data-slot=scatter-note]"), texts.join(" · "));
    const title = fill(gettext("Scatter chart of {y} against {x}: {note}"), { x: x.title, y: y.title, note: texts.join(", ") });
    this.#draw("scatter", title, parts);
  }

  #paintParallel() {
    const y = this.#factOf("y");
    const parameters = this.#facts.filter((fact) => !fact.is_metric).slice(0, MOST_AXES - 1);
    const axes = y && !parameters.includes(y) ? [...parameters, y] : parameters;
    const shown = this.#shown();
    const scales = axes.map((fact) => factAxis(shown.map((place) => fact.values[place]), spansDecades(fact.values)));
    const left = (index) => 20 + (index * (this.#width - 90)) / Math.max(1, axes.length - 1);
    const top = (at) => HEIGHT - 20 - at * (HEIGHT - 64);
    const lines = shown.map((place) => {
      const id = this.#lines[place];
      const places = axes.map((fact, index) => [left(index), scales[index].place(fact.values[place])]);
      const points = places.filter(([, at]) => at !== null).map(([x, at]) => `${x},${top(at)}`).join(" ");
      const width = this.#looks.isNear(id) ? 3 : 1.6;
      const drawn = svgElement("polyline", { points, fill: "none", stroke: this.#colourOf(id), "stroke-width": width, "data-line": id });
      drawn.append(titled(this.#labelOf(id)));
      return drawn;
    });
    const frame = axes.flatMap((fact, index) => [
      line(left(index), top(0), left(index), top(1)),
      // In two rows, so that the names of neighbours do not overlap.
      heading(left(index), index % 2 ? 28 : 13, fact.title, 2 * (left(1) - left(0)), this.#width),
      ...scales[index].ticks.map(({ at, text }) => label(left(index) + 6, top(at) + 4, short(text), "start")),
    ]);
    const names = axes.map(({ title }) => title).join(", ");
    const title = fill(gettext("Parallel coordinates of {count} runs: {names}"), { count: shown.length, names });
    this.#draw("parallel", title, [...lines, ...frame]);
  }

  #labelOf(id) {
    return this.#page.runs.find((run) => run.id === id)?.label ?? "";
  }

  #draw(name, title, parts) {
    const size = { viewBox: `0 0 ${this.#width} ${HEIGHT}`, height: HEIGHT };
    const picture = svgElement("svg", { ...size, role: "img", "aria-label": title, "data-testid": name }, ...parts);
    this.#root.querySelector(`[data-slot=${name}]`).replaceChildren(picture);
  }
}

/** Return the first of the facts that most runs have. */
function mostKnown(facts) {
  const known = ({ values }) => values.filter((value) => value !== null).length;
  return facts.reduce((best, fact) => (best && known(best) >= known(fact) ? best : fact), undefined);
}

/** Return whether values span several decades, such as learning rates, for which a log axis is better. */
function spansDecades(values) {
  const numbers = values.filter((value) => typeof value === "number");
  return numbers.length > 0 && Math.min(...numbers) > 0 && Math.max(...numbers) >= 30 * Math.min(...numbers);
}

function lineOf(node) {
  const found = node.closest?.("[data-line]");
  return found ? Number(found.dataset.line) : null;
}

function short(text, most = LONGEST_TEXT) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function line(x1, y1, x2, y2) {
  return svgElement("line", { x1, y1, x2, y2, stroke: palette.grid, "stroke-width": 1 });
}

function label(x, y, text, anchor, full = "") {
  const font = { "text-anchor": anchor, fill: palette.axis, "font-size": 11 };
  // Readable on top of lines.
  const halo = { stroke: palette.surface, "stroke-width": 3, "paint-order": "stroke" };
  const node = svgElement("text", { x, y, ...font, ...halo });
  node.append(text);
  if (full && full !== text) node.append(titled(full));
  return node;
}

/** Return the name of an axis at `x`, shortened to fit into a chart of `width`. */
function heading(x, y, text, room, width) {
  const most = Math.max(3, Math.floor(Math.min(room, width / 2) / LETTER_WIDTH));
  const name = short(text, most);
  const half = (name.length * LETTER_WIDTH) / 2;
  const anchor = x < half ? "start" : x + half > width ? "end" : "middle";
  return label(anchor === "end" ? width - 4 : anchor === "start" ? 4 : x, y, name, anchor, text);
}

function titled(text) {
  const title = svgElement("title", {});
  title.append(text);
  return title;
}
