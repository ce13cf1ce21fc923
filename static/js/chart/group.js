// Charts that share a cursor and a zoom, and the finer data of the zoomed range.

import { element, icon } from "../shared/dom.js";
import { gettext } from "../shared/i18n.js";
import { ascending, drawable } from "../state/columns.js";
import { lineOf, seriesFromCharts } from "../state/series.js";

const SETTLE_MS = 150;
const DETAIL_BUCKETS = 1200;
const FETCHED_AT_ONCE = 64;
// The wheel cannot zoom closer than this fraction of the whole range.
const CLOSEST = 1e-6;

let groups = 0;

export class ChartGroup {
  #fetchRange;
  #attemptsOf;
  #onChange;
  #timer = 0;
  #buttons = [];
  // The series whose finer data were requested for the shown range.
  #asked = new Set();
  #details = new Map();

  /**
   * `attemptsOf(name)` returns the attempts of a series. `fetchRange(names, from, to, buckets)` resolves to {name:
   * charts}, null if there is no finer data. The zoom, `from` and `to` are in the unit of the drawn x; `mapping()`
   * converts it to the stored unit.
   */
  constructor({ fetchRange = null, attemptsOf = null, mapping, onChange }) {
    this.key = `group-${(groups += 1)}`;
    this.charts = [];
    this.zoom = null;
    this.version = 0;
    this.mapping = mapping;
    this.#fetchRange = fetchRange;
    this.#attemptsOf = attemptsOf;
    this.#onChange = onChange;
  }

  join(chart) {
    this.charts.push(chart);
  }

  /** Stop requesting data for a chart that another one replaces. */
  leave(chart) {
    this.charts = this.charts.filter((other) => other !== chart);
  }

  /** Return a new button that resets the zoom; it is visible while there is one. */
  resetButton() {
    const attributes = { class: "zoom-reset", type: "button", hidden: !this.zoom };
    const button = element("button", attributes, icon("zoom"), gettext("Reset zoom"));
    button.addEventListener("click", (event) => {
      event.preventDefault(); // it may be inside a summary, which would fold its group
      this.reset();
    });
    this.#buttons.push(button);
    return button;
  }

  /** `isFinal`: no further zoom follows at once, as it does while a wheel turns. */
  zoomTo(from, to, { isFinal = false } = {}) {
    this.zoom = { from, to };
    this.#forgetDetails();
    this.#touch();
    if (isFinal) this.#refineNow();
    else this.refine();
  }

  #refineNow() {
    clearTimeout(this.#timer);
    if (this.#fetchRange) this.#refine(this.zoom);
  }

  /** After a short delay, request finer data of the shown range for visible charts without it. */
  refine() {
    clearTimeout(this.#timer);
    if (this.#fetchRange && this.zoom) this.#timer = setTimeout(() => this.#refine(this.zoom), SETTLE_MS);
  }

  /** Show `factor` times the range around `centre`, within the whole range [first x, last x]. */
  zoomBy(factor, centre, [first, last], shown = this.zoom ?? { from: first, to: last }) {
    const from = Math.max(first, centre - (centre - shown.from) * factor);
    const to = Math.min(last, centre + (shown.to - centre) * factor);
    if (from <= first && to >= last) this.reset();
    else if (to - from > (last - first) * CLOSEST) this.zoomTo(from, to);
  }

  /** Move the range that is shown by `distance`, within `extent`: [first x, last x]. */
  panBy(distance, [first, last]) {
    if (!this.zoom) return;
    const { from, to } = this.zoom;
    const moved = distance < 0 ? Math.max(distance, Math.min(0, first - from)) : Math.min(distance, Math.max(0, last - to));
    if (moved) this.zoomTo(from + moved, to + moved);
  }

  reset() {
    if (!this.zoom) return;
    clearTimeout(this.#timer);
    this.zoom = null;
    this.#forgetDetails();
    this.#touch();
  }

  #forgetDetails() {
    this.#details.clear();
    this.#asked.clear();
  }

  /**
   * Return the line of `series` as attempt `last` left it: the finer data if it was fetched, continued by the points
   * that have arrived since.
   */
  read(series, last, from, to, buckets) {
    const { by, back } = this.mapping();
    return this.#mapped(this.#stored(series, last, back(from), back(to), buckets, by));
  }

  /** Return `columns` between two values of the drawn x, in at most about `buckets` columns. */
  readColumns(columns, from, to, buckets) {
    const { by, back } = this.mapping();
    return this.#mapped(drawable(columns, back(from), back(to), buckets, by));
  }

  #mapped(found) {
    found.xs = ascending(found.xs.map(this.mapping().forward));
    return found;
  }

  #stored(series, last, from, to, buckets, by) {
    const line = lineOf(series, last);
    const fetched = this.#details.get(series.name);
    // An attempt that began since may repeat the fetched steps.
    if (fetched && [...series.parts.keys()].some((attempt) => !fetched.attempts.has(attempt))) {
      this.#details.delete(series.name);
      this.#asked.delete(series.name);
      this.refine();
    }
    const detail = this.#details.has(series.name) ? lineOf(fetched.series, last) : null;
    if (!detail?.xs.length) return drawable(line, from, to, buckets, by);
    const fine = drawable(detail, from, to, buckets, by);
    const seen = (by === "time" ? detail.times : detail.xs).at(-1);
    const live = drawable(line, seen, to, buckets, by);
    const begin = live.xs.findIndex((x) => x > seen);
    if (begin < 0) return fine;
    for (const column of ["xs", "means", "mins", "maxs"]) fine[column] = fine[column].concat(live[column].slice(begin));
    fine.banded = fine.banded || live.banded;
    return fine;
  }

  async #refine(zoom) {
    if (!zoom) return;
    const { from, to } = zoom;
    // The portal accepts this many in one request.
    const names = this.charts
      .filter((chart) => chart.isVisible)
      .flatMap((chart) => chart.lines.filter(({ name, isCoarse }) => !this.#asked.has(name) && isCoarse?.(from, to)))
      .map(({ name }) => name)
      .slice(0, FETCHED_AT_ONCE);
    if (!names.length) return;
    for (const name of names) this.#asked.add(name);
    const known = new Map(names.map((name) => [name, this.#attemptsOf(name)]));
    let finer;
    try {
      const { by, back } = this.mapping();
      finer = await this.#fetchRange(names, back(from), back(to), DETAIL_BUCKETS, by);
    } catch {
      // keep the coarse curve, which is correct but less detailed
      if (this.zoom === zoom) for (const name of names) this.#asked.delete(name);
      return;
    }
    if (this.zoom !== zoom) return;
    for (const [name, charts] of Object.entries(finer))
      this.#details.set(name, { series: seriesFromCharts(name, charts), attempts: known.get(name) });
    this.#touch();
    if (names.length === FETCHED_AT_ONCE) this.refine();
  }

  #touch() {
    this.version += 1;
    for (const button of this.#buttons) button.hidden = !this.zoom;
    this.#onChange();
  }
}
