// The chart of one metric: a line for each run, and finer lines in a zoom.

import { knowsEpochs, mapping, xAxisFor } from "../chart/axes.js";
import { Chart } from "../chart/chart.js";
import { gettext } from "../shared/i18n.js";
import { ascending, columnOf, drawable, lowerBound } from "../state/columns.js";

const NOTHING = { xs: [], means: [], mins: [], maxs: [], banded: false, points: 0 };
const LOWEST_IS_BEST = /(loss|perplexity|error|_s|_ms)$/;

export class MetricChart {
  chart;
  showPin;
  #offer;
  #runs;
  #view;
  #looks;
  #whole = new Map();
  #fine = new Map();
  #zoom = null;
  #version = 0;

  /**
   * `offer` is {key, name, axis}, `pin` {star, show()} its button that pins it, or null; `group` shares cursor and zoom
   * with the other charts over the same x.
   */
  constructor({ offer, pin, runs, view, looks, group, onSeen, onNear }) {
    this.#offer = offer;
    this.showPin = () => pin?.show();
    this.#runs = runs;
    this.#view = view;
    this.#looks = looks;
    this.chart = new Chart({
      title: offer.name,
      axis: offer.axis === "time" ? "machine" : "step",
      group,
      view,
      place: gettext("compared runs"),
      buttons: pin ? [pin.star] : [],
      onSeen,
      onNear: (place) => onNear(place === null ? null : runs[place].id),
      lines: runs.map((run, place) => this.#line(run, place)),
    });
  }

  get key() {
    return this.#offer.key;
  }

  get name() {
    return this.#offer.name;
  }

  /** The current unit of x. */
  get x() {
    return xAxisFor(this.chart.axis, this.#view.over);
  }

  /** Return whether lower values of the metric are better. */
  get lowest() {
    return LOWEST_IS_BEST.test(this.name);
  }

  join(group) {
    if (this.chart.group === group) return;
    this.chart.group = group;
    group.join(this.chart);
  }

  /** Drop all curves, because they are loaded again for another x. */
  clear() {
    this.#whole.clear();
    this.#fine.clear();
    this.#version += 1;
  }

  /** Set the whole curve of a run. */
  put(run, curve) {
    this.#whole.set(run, curve);
    this.#version += 1;
  }

  /** Set the finer curve of a run in a zoom; those of other zooms are dropped. */
  putFine(zoom, run, curve) {
    if (zoom !== this.#zoom) this.#fine.clear();
    this.#zoom = zoom;
    if (curve.columns.xs.length) this.#fine.set(run, curve);
    this.#version += 1;
  }

  /** Return whether any bucket of a curve has several points. */
  get isCoarse() {
    return [...this.#whole.values()].some(({ columns }) => columns.weights.some((weight) => weight > 1));
  }

  paint(now) {
    return this.chart.paint(now);
  }

  /** Return the value of the run at index `place` for the legend: the one at the cursor, or the newest. */
  textOf(place) {
    const { lines, parts } = this.chart;
    return (lines.length > 1 ? lines[place].value : parts.reading).textContent;
  }

  /** Return the best value of a run, null if there is none. */
  extremeOf(id) {
    const columns = this.#whole.get(id)?.columns;
    if (!columns) return null;
    const { lowest } = this;
    const ends = (lowest ? columns.mins : columns.maxs).filter((value) => value !== null);
    return ends.length ? ends.reduce((one, other) => (one < other === lowest ? one : other)) : null;
  }

  #line(run, place) {
    const whole = () => this.#whole.get(run.id)?.columns;
    const own = () => (this.#zoom && this.#zoom === this.chart.group.zoom && this.#fine.get(run.id)?.columns) || whole();
    return {
      name: this.name,
      label: run.label,
      ...this.#looks.lookOf(place),
      isFaint: () => this.#looks.isFaint(run.id),
      isHidden: () => !this.#looks.isShown(run.id),
      version: () => `${this.#version} ${this.#looks.version} ${run.start} ${run.steps_per_epoch} ${run.epochs.at(-1)?.step}`,
      latest: () => {
        const { last = null, odd = "" } = this.#whole.get(run.id) ?? {};
        return { value: last, nonfinite: odd };
      },
      extent: () => {
        const columns = whole();
        if (!columns?.xs.length || !this.#isDrawn(run)) return null;
        const { by, forward } = this.#mapping(run);
        const column = columnOf(columns, by);
        return [forward(column[0]), forward(column.at(-1))];
      },
      read: (from, to, buckets) => {
        const columns = own();
        if (!columns || !this.#isDrawn(run)) return NOTHING;
        const { by, forward, back } = this.#mapping(run);
        const drawn = drawable(columns, back(from), back(to), buckets, by);
        drawn.xs = ascending(drawn.xs.map(forward));
        const times = columnOf(columns, by);
        const placeOf = (x) => (by === "time" ? times[Math.min(lowerBound(columns.xs, x), times.length - 1)] : x);
        return { ...drawn, odd: columns.odd.map((entry) => ({ ...entry, x: forward(placeOf(entry.x)) })) };
      },
    };
  }

  /** Return whether a run is shown, and has places on the current x: not all runs have epochs. */
  #isDrawn(run) {
    return this.#looks.isShown(run.id) && (this.x !== "epoch" || knowsEpochs(clockOf(run)));
  }

  #mapping(run) {
    return mapping(this.x, clockOf(run));
  }
}

/** Return what the conversion between steps, epochs and times needs to know of a run. */
function clockOf(run) {
  return { start: run.start, stepsPerEpoch: run.steps_per_epoch, epochs: run.epochs };
}
