// Parameters and metrics of the runs plotted against each other: a scatter chart, and parallel coordinates.

import { element, setHidden, setText, svgElement } from "../shared/dom.js";
import { exactValue, fixed } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { faint, lineColour, palette } from "../shared/palette.js";
import { AxisMenu } from "./axis_menu.js";
import { factAxis, insideAll, rankCorrelation } from "./fact_axis.js";
import { HEIGHT, label, line, titled } from "./fact_svg.js";
import { ParallelChart } from "./parallel.js";

// In pixels. Both charts are as wide as their container, which is narrow on a phone.
const NARROWEST = 300;
const ROOM = { left: 64, right: 20, top: 16, bottom: 44 };
// Without a choice.
const MOST_AXES = 8;

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
  #menu;
  #parallel;
  // The keys of the chosen axes, null without a choice, and [low, high] by key.
  #axes;
  #ranges;
  // The indices of the runs in all ranges, null without a range.
  #inside = null;

  /**
   * `root` is the section with the selects named x and y, the checkboxes xlog and ylog, the menu of axes, and the
   * containers of both charts. `chosen` is {x, y}, keys of facts, and {xlog, ylog}; `axes` are keys of facts, null
   * without a choice, and `ranges` has [low, high] by such a key.
   */
  constructor(root, page, looks, { facts: chosen, axes, ranges }, onChange) {
    this.#root = root;
    this.#page = page;
    this.#looks = looks;
    this.#onChange = onChange;
    this.#axes = axes;
    this.#ranges = new Map(ranges);
    this.#menu = new AxisMenu(root.querySelector("[data-axes]"), (keys) => this.#chooseAxes(keys));
    this.#parallel = new ParallelChart(root.querySelector("[data-slot=parallel]"), (key, range) => this.#setRange(key, range));
    root.querySelector("[data-clear-ranges]").addEventListener("click", () => this.#clearRanges());
    for (const name of ["x", "y"]) {
      this.#select(name).dataset.wanted = chosen[name] ?? "";
      this.#logOf(name).checked = chosen[`${name}log`];
    }
    root.addEventListener("input", () => {
      for (const name of ["x", "y"]) this.#select(name).dataset.wanted = this.#select(name).value;
      this.#rangesChanged();
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

  /** The chosen axes of the parallel coordinates, null without a choice. */
  get axes() {
    return this.#axes;
  }

  /** The ranges on axes: [low, high] by key. */
  get ranges() {
    return this.#ranges;
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
    this.#rangesChanged();
  }

  paint() {
    if (this.#root.hidden || !this.#root.open) return;
    if (!this.#changed(this.#version, this.#looks.version, palette.version)) return;
    this.#paintScatter();
    this.#paintParallel();
    this.#paintNote();
  }

  #chooseAxes(keys) {
    this.#axes = keys;
    // A range on an axis that is no longer there would select runs without being seen.
    if (keys) for (const key of this.#ranges.keys()) if (!keys.includes(key)) this.#ranges.delete(key);
    this.#rangesChanged();
  }

  #setRange(key, range) {
    if (range) this.#ranges.set(key, range);
    else this.#ranges.delete(key);
    this.#rangesChanged();
  }

  #clearRanges() {
    this.#ranges.clear();
    this.#rangesChanged();
    // The button is hidden, so that the focus would be lost.
    this.#root.querySelector("[data-axis]")?.focus();
  }

  /** Select the runs in the ranges of the axes, after a change of either or of the values. */
  #rangesChanged() {
    const axes = this.#shownAxes();
    this.#inside = insideAll(axes, this.#ranges);
    this.#looks.select(this.#inside && new Set([...this.#inside].map((place) => this.#lines[place])));
    this.#menu.show(this.#facts, axes.map(({ key }) => key));
    this.#version += 1;
    this.#onChange();
  }

  /** Return the facts that are axes of the parallel coordinates: without a choice, the parameters and the metric y. */
  #shownAxes() {
    if (this.#axes) return this.#axes.flatMap((key) => this.#facts.find((fact) => fact.key === key) ?? []);
    const y = this.#factOf("y");
    const parameters = this.#facts.filter((fact) => !fact.is_metric).slice(0, MOST_AXES - 1);
    return y && !parameters.includes(y) ? [...parameters, y] : parameters;
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

  /** Return whether the run at an index is drawn pale. Of a group, single runs may be outside the ranges. */
  #isPale(place) {
    const id = this.#lines[place];
    if (this.#looks.isFaint(id)) return true;
    return Boolean(this.#inside) && !this.#inside.has(place) && !this.#looks.isNear(id);
  }

  #colourOf(place) {
    const line = this.#page.runs.findIndex((run) => run.id === this.#lines[place]);
    const colour = lineColour(this.#looks.lookOf(line).colour);
    return this.#isPale(place) ? faint(colour, 0.2) : colour;
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
      const dot = svgElement("circle", { cx: left(atX), cy: top(atY), r: this.#looks.isNear(id) ? 8 : 5, fill: this.#colourOf(place), "data-line": id });
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
    const runs = this.#shown().map((place) => {
      const id = this.#lines[place];
      return { place, id, colour: this.#colourOf(place), width: this.#looks.isNear(id) ? 3 : 1.6, label: this.#labelOf(id) };
    });
    // Pale lines are below the others.
    const above = ({ place }) => Number(!this.#isPale(place));
    runs.sort((one, other) => above(one) - above(other));
    this.#parallel.paint(this.#shownAxes(), runs, this.#ranges, this.#width);
  }

  #paintNote() {
    const shown = this.#shown();
    const selected = shown.filter((place) => this.#inside?.has(place)).length;
    const text = this.#inside ? fill(gettext("{selected} of {all} runs"), { selected, all: shown.length }) : "";
    setText(this.#root.querySelector("[data-slot=range-note]"), text);
    setHidden(this.#root.querySelector("[data-clear-ranges]"), !this.#inside);
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

function lineOf(node) {
  const found = node.closest?.("[data-line]");
  return found ? Number(found.dataset.line) : null;
}
