// The lines of charts: their data from the series of the run, and their looks.

import { columnOf, lowerBound } from "../../state/columns.js";
import { earlierOf, lineOf } from "../../state/series.js";
import { colourOf, deviceOf } from "../../state/series_colour.js";
import { addedName, epochReader, isPerEpoch, recordedName } from "./epoch_lines.js";
import { isTotal, lineLabel } from "./series_names.js";

const NOTHING = { value: null, nonfinite: "" };

export class ChartLines {
  #state;
  #view;
  #groups;
  #clock;

  /** `groups`: by axis, the group that reads the stored points; `clock` {version, mapping(axis)} converts x. */
  constructor(state, view, groups, clock) {
    this.#state = state;
    this.#view = view;
    this.#groups = groups;
    this.#clock = clock;
  }

  /** Return the lines of a chart with the series `names`; `onRemove(name)` removes one of those that a person added. */
  ofChart(names, axis, onRemove) {
    return names.map((name, index) => {
      const line = isPerEpoch(name)
        ? this.#perEpoch(name, index, names[0])
        : this.#make(name, index, names.length, axis);
      return axis === "step" && index ? { ...line, onRemove: () => onRemove(name) } : line;
    });
  }

  #perEpoch(name, index, first) {
    const series = () => this.#state.series.get(first);
    const beside = () => (series() ? lineOf(series(), this.#view.attempt) : null);
    const reader = epochReader(name, this.#state, this.#view, this.#clock, beside);
    return { name, label: addedName(name), colour: colourOf(recordedName(name), "step"), dash: index, ...reader };
  }

  /** Return the line of the series `name`, at `index` of `lines` in its chart. */
  #make(name, index, lines, axis) {
    const dash = axis === "step" ? index : dashOf(name, lines);
    const series = () => this.#state.series.get(name);
    const line = () => (series() ? lineOf(series(), this.#view.attempt) : null);
    const group = () => this.#groups[series().axis];
    return {
      name,
      colour: colourOf(name, axis),
      dash,
      // Added series have their full names, because their last parts may be equal.
      label: axis === "step" && lines > 1 ? name : lineLabel(name),
      // On a new page, the newest values and the start of the run arrive after the curve.
      version: () => `${series()?.version} ${this.#state.latest[name]?.value} ${this.#clock.version}`,
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
        const { by, forward } = this.#clock.mapping(series().axis);
        const ends = columns.map((one) => columnOf(one, by)).filter((one) => one.length);
        if (!ends.length) return null;
        return [forward(Math.min(...ends.map(([first]) => first))), forward(Math.max(...ends.map((one) => one.at(-1))))];
      },
      isCoarse: (from, to) => {
        const own = line();
        const { by, back } = this.#clock.mapping(own.axis);
        const column = columnOf(own, by);
        const [first, last] = [lowerBound(column, back(from)), lowerBound(column, back(to))];
        return own.weights.slice(first, last + 1).some((weight) => weight > 1);
      },
    };
  }

  /** Return the x of values that are not finite, on the drawn axis. */
  #oddOf(line) {
    if (!line.odd.length) return line.odd;
    const { by, forward } = this.#clock.mapping(line.axis);
    const column = columnOf(line, by);
    return line.odd.map(({ x, name, count }) => {
      const index = Math.min(lowerBound(line.xs, x), column.length - 1);
      return { x: forward(by === "time" ? column[index] : x), name, count };
    });
  }
}

/** Return the dash of a line of the machine: devices differ in it too; a total is dotted, next to the used part. */
function dashOf(name, lines) {
  if (lines === 1) return 0;
  return isTotal(name) ? 2 : Number(deviceOf(name) ?? 0);
}

/** Return the last point of a line, as an attempt left it. */
function endOf(columns) {
  const end = (columns?.xs.length ?? 0) - 1;
  if (end < 0) return NOTHING;
  const odd = columns.odd.findLast(({ x }) => x >= columns.firsts[end]);
  return { value: columns.means[end], nonfinite: odd?.name ?? "" };
}
