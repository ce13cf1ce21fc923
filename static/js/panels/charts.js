// All charts of a run: series grouped by the first part of their name, machine samples over time, epochs.

import { knowsEpochs, mapping, xAxisFor } from "../chart/axes.js";
import { Chart } from "../chart/chart.js";
import { ChartGroup } from "../chart/group.js";
import { element, icon, setText } from "../shared/dom.js";
import { getJson } from "../shared/http.js";
import { fill, gettext } from "../shared/i18n.js";
import { naturalOrder } from "../shared/natural_order.js";
import { changeDetector } from "../shared/painter.js";
import { columnOf, lowerBound } from "../state/columns.js";
import { countedEpochs } from "../state/epochs.js";
import { earlierOf, lineOf } from "../state/series.js";
import { noMetricsText } from "./empty_charts_text.js";
import {
  byImportance,
  colourOf,
  deviceOf,
  groupBy,
  groupOrder,
  groupTitle,
  isTotal,
  lineLabel,
  measureOf,
  prefixOf,
  totalsLast,
} from "./series_names.js";

const NOTHING = { value: null, nonfinite: "" };
// With more charts in sight than this they take turns, so that a page full of them leaves the browser time.
const PAINTED_AT_ONCE = 6;
// A group shows so many charts, and as many more each time it is asked for them.
const SHOWN_AT_ONCE = 60;

export class ChartPanel {
  #state;
  #page;
  #onSeen;
  #groups = new Map();
  #charts = new Map();
  #near;
  #places;
  #view;
  #marks;
  #next = 0;
  #layoutChanged = changeDetector();
  #clockChanged = changeDetector();
  #known = null;
  #clockVersion = 0;

  /**
   * `view` says how all charts are drawn, `marks` what was done to the run; `onSeen()` asks for another paint, and
   * `near` is told of each chart, which may come into sight.
   */
  constructor(state, page, view, marks, onSeen, near) {
    this.#state = state;
    this.#page = page;
    this.#view = view;
    this.#marks = marks;
    this.#onSeen = onSeen;
    this.#near = near;
    this.#places = { step: document.getElementById("charts"), time: document.getElementById("machine") };
  }

  paint(now) {
    this.#marks.refresh();
    // Before the history is there nobody knows that there are no metrics.
    const { run, versions } = this.#state;
    if (versions.layout && this.#layoutChanged(versions.layout, run?.state)) this.#layOut();
    const clock = this.#clock();
    this.#view.allowEpochs(knowsEpochs(clock));
    this.#view.offerAttempts(this.#state.attempts);
    const charts = [...this.#charts.values()];
    let painted = 0;
    for (let turn = 0; turn < charts.length; turn += 1) {
      const place = (this.#next + turn) % charts.length;
      if (!charts[place].paint(now)) continue;
      painted += 1;
      if (painted < PAINTED_AT_ONCE) continue;
      this.#next = place + 1;
      this.#onSeen();
      return;
    }
  }

  resetZoom() {
    for (const group of this.#groups.values()) group.group.reset();
  }

  /** Another attempt was chosen: what is zoomed may be finer for it. */
  refine() {
    for (const { group } of this.#groups.values()) group.refine();
  }

  /** The start of the run and the ends of its epochs; read many times in each paint. */
  #clock() {
    const { run, epochs, versions } = this.#state;
    if (this.#clockChanged(versions.epochs, this.#view.attempt, run?.started_at, run?.steps_per_epoch)) {
      this.#clockVersion += 1;
      this.#known = {
        start: run?.started_at ? Date.parse(run.started_at) / 1000 : null,
        stepsPerEpoch: run?.steps_per_epoch ?? null,
        epochs: countedEpochs(epochs, this.#view.attempt),
      };
    }
    return this.#known;
  }

  #mapping(axis) {
    return mapping(xAxisFor(axis, this.#view.over), this.#clock());
  }

  /** What was done, and alerts of the series `names`, for a chart of an axis; over epochs steps are measured in them. */
  marksOver(axis, names = []) {
    const over = () => (axis === "epoch" ? mapping("epoch", this.#clock()) : this.#mapping(axis));
    return {
      version: () => `${this.#marks.version} ${this.#clockVersion}`,
      read: () => this.#marks.over(over(), axis === "time", names),
    };
  }

  /** Fetch finer charts by name. */
  fetchRange = async (names, from, to, buckets, by) => {
    const query = new URLSearchParams({ from, to, buckets, by, by_attempt: true });
    for (const name of names) query.append("name", name);
    return (await getJson(`${this.#page.addresses.points}?${query}`, this.#page.addresses.login)).series;
  };

  #layOut() {
    const names = [...this.#state.series.keys()];
    const training = names.filter((name) => this.#state.series.get(name).axis === "step").sort(byImportance);
    const machine = names.filter((name) => this.#state.series.get(name).axis === "time").sort(totalsLast);
    for (const [prefix, members] of groupBy(training, prefixOf)) this.#showFirst(prefix, members);
    for (const [measure, members] of groupBy(machine, measureOf))
      this.#chartOf(measure, prefixOf(measure), "time", members);
    this.#showEmptiness(training.length, machine.length);
  }

  /** Thousands of charts at once would stop the page: the first are made, the others are asked for. */
  #showFirst(prefix, members) {
    const place = this.#groupOf(prefix, "step");
    const waiting = members.filter((name) => !this.#charts.has(name));
    const made = waiting.slice(0, Math.max(0, place.shown - place.grid.children.length));
    for (const name of made) this.#chartOf(name, prefix, "step", [name]);
    const left = waiting.length - made.length;
    place.more.hidden = !left;
    if (left)
      setText(
        place.more,
        fill(gettext("Show {count} more of {total} charts"), {
          count: Math.min(left, SHOWN_AT_ONCE),
          total: members.length,
        }),
      );
    place.count.textContent = String(members.length);
  }

  #chartOf(key, prefix, axis, names) {
    const known = this.#charts.get(key);
    if (known && known.lines.length === names.length) return;
    const place = this.#groupOf(prefix, axis);
    const chart = new Chart({
      title: key,
      axis,
      group: place.group,
      view: this.#view,
      place: `${this.#page.name} #${this.#page.run}`,
      marks: this.marksOver(axis, names),
      onSeen: this.#onSeen,
      lines: names.map((name, index) => this.#line(name, ...this.#look(name, index, names.length, place.colour))),
    });
    this.#near.add(chart);
    if (known) {
      this.#near.remove(known);
      known.root.replaceWith(chart.root);
    } else insertSorted(place.grid, chart.root, key, axis);
    this.#charts.set(key, chart);
    place.count.textContent = String(place.grid.children.length);
  }

  /** Colour and dash of a line: devices differ in both; what is there in all is dotted beside what is used. */
  #look(name, index, lines, colour) {
    if (lines === 1) return [colour, 0];
    const device = deviceOf(name);
    const look = device === null ? index : Number(device);
    return [look, isTotal(name) ? 2 : device === null ? 0 : look];
  }

  #line(name, colour, dash) {
    const series = () => this.#state.series.get(name);
    const line = () => (series() ? lineOf(series(), this.#view.attempt) : null);
    const group = () => this.#groups.get(`${series().axis}:${prefixOf(name)}`).group;
    return {
      name,
      colour,
      dash,
      label: lineLabel(name),
      // A fresh page learns the newest values, and when the run began, after the curve.
      version: () => `${series()?.version} ${this.#state.latest[name]?.value} ${this.#clockVersion}`,
      latest: () => (this.#view.attempt === Infinity ? (this.#state.latest[name] ?? NOTHING) : endOf(line())),
      read: (from, to, buckets) => {
        const own = series();
        if (!own) return { xs: [], means: [], mins: [], maxs: [], banded: false, points: 0 };
        const last = this.#view.attempt;
        const columns = line();
        return {
          ...group().read(own, last, from, to, buckets),
          odd: this.#oddOf(columns),
          earlier: earlierOf(own, last).map(({ columns: other }) => group().readColumns(other, from, to, buckets)),
        };
      },
      extent: () => {
        if (!series()) return null;
        const columns = [line(), ...earlierOf(series(), this.#view.attempt).map((one) => one.columns)];
        const { by, forward } = this.#mapping(series().axis);
        const ends = columns.map((one) => columnOf(one, by)).filter((one) => one.length);
        if (!ends.length) return null;
        return [forward(Math.min(...ends.map(([first]) => first))), forward(Math.max(...ends.map((one) => one.at(-1))))];
      },
      isCoarse: (from, to) => {
        const own = line();
        const { by, back } = this.#mapping(own.axis);
        const column = columnOf(own, by);
        const [first, last] = [lowerBound(column, back(from)), lowerBound(column, back(to))];
        return own.weights.slice(first, last + 1).some((weight) => weight > 1);
      },
    };
  }

  /** The places of the non-finite values on the axis that is drawn. */
  #oddOf(line) {
    if (!line.odd.length) return line.odd;
    const { by, forward } = this.#mapping(line.axis);
    const column = columnOf(line, by);
    return line.odd.map(({ x, name, count }) => {
      const index = Math.min(lowerBound(line.xs, x), column.length - 1);
      return { x: forward(by === "time" ? column[index] : x), name, count };
    });
  }

  #groupOf(prefix, axis) {
    const key = `${axis}:${prefix}`;
    if (this.#groups.has(key)) return this.#groups.get(key);
    const group = new ChartGroup({
      onChange: this.#onSeen,
      mapping: () => this.#mapping(axis),
      fetchRange: this.fetchRange,
      attemptsOf: (name) => new Set(this.#state.series.get(name)?.parts.keys()),
    });
    const grid = element("div", { class: "chart-grid" });
    const more = element("button", { class: "more-charts", type: "button", hidden: true, "data-more": "" });
    const count = element("span", { class: "group-count" });
    const title = element("h2", { class: "block-title", text: groupTitle(prefix) });
    const root = element(
      "details",
      { class: "chart-group", open: true, "data-group": prefix },
      element("summary", {}, title, count, group.button),
      grid,
      more,
    );
    more.addEventListener("click", () => {
      place.shown += SHOWN_AT_ONCE;
      this.#layOut();
      this.#onSeen();
    });
    const after = [...this.#places[axis].querySelectorAll(".chart-group")].find(
      (other) => groupOrder(other.dataset.group, prefix) > 0,
    );
    this.#places[axis].insertBefore(root, after ?? null);
    const place = { group, grid, count, more, shown: SHOWN_AT_ONCE, colour: colourOf(prefix, this.#groups.size) };
    this.#groups.set(key, place);
    return place;
  }

  #showEmptiness(training, machine) {
    for (const skeleton of this.#places.step.querySelectorAll("[data-skeleton]")) skeleton.remove();
    showNote(
      this.#places.step,
      !training,
      "chart",
      gettext("No metrics yet"),
      noMetricsText(this.#state, this.#page.start),
    );
    showNote(
      this.#places.time,
      !machine,
      "chip",
      gettext("No machine samples yet"),
      gettext("GPU and host are sampled once per second while the run trains."),
    );
  }
}

/** The last point of a line, as an attempt left it. */
function endOf(columns) {
  const end = (columns?.xs.length ?? 0) - 1;
  if (end < 0) return NOTHING;
  const odd = columns.odd.findLast(({ x }) => x >= columns.firsts[end]);
  return { value: columns.means[end], nonfinite: odd?.name ?? "" };
}

function showNote(place, wanted, picture, title, text) {
  let note = place.querySelector(":scope > .blank");
  if (!wanted) {
    note?.remove();
    return;
  }
  if (note) {
    setText(note.querySelector("p"), text);
    return;
  }
  const svg = icon(picture, "blank-icon");
  note = element("div", { class: "card blank" }, svg, element("h2", { text: title }), element("p", { text }));
  place.append(note);
}

function insertSorted(grid, root, key, axis) {
  const rank = axis === "step" ? byImportance : naturalOrder;
  root.dataset.key = key;
  const after = [...grid.children].find((other) => rank(other.dataset.key, key) > 0);
  grid.insertBefore(root, after ?? null);
}
