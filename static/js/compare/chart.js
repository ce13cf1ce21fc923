// The chart of one series of several runs: a line each, with colour and dash of its own.

import { knowsEpochs, mapping, xAxisFor } from "../chart/axes.js";
import { Chart } from "../chart/chart.js";
import { ChartGroup } from "../chart/group.js";
import { getJson } from "../shared/http.js";
import { gettext } from "../shared/i18n.js";
import { lineColours } from "../shared/palette.js";
import { ascending, columnOf, columnsFromChart, drawable, lowerBound } from "../state/columns.js";

const BUCKETS = 1200;
const SETTLE_MS = 150;
// As many as one answer of epochs holds.
const EPOCHS_A_PAGE = 1000;
const EPOCH = /^epoch:/;
const LOWEST_IS_BEST = /(loss|perplexity|error|_s|_ms)$/;
const HEIGHT = 380;

/** Return whether more may come of a run without another attempt by hand: it waits, lives or is lost. */
export function mayChange(run) {
  return run.group !== "ended";
}

export class CompareChart {
  name = "";
  #page;
  #view;
  #place;
  #onSeen;
  #chart = null;
  #group = null;
  #choice = "";
  #whole = new Map();
  #fine = new Map();
  #newest = new Map();
  #version = 0;
  #zoomed = null;
  #timer = 0;

  constructor(page, view, place, onSeen) {
    this.#page = page;
    this.#view = view;
    this.#place = place;
    this.#onSeen = onSeen;
    view.allowEpochs(page.runs.some((run) => knowsEpochs(clockOf(run))));
  }

  /** Draw another series; resolves when it is loaded. */
  async show(choice) {
    this.#choice = choice;
    this.name = choice.replace(EPOCH, "");
    this.#whole.clear();
    this.#newest.clear();
    this.#build();
    await this.refresh(() => true);
  }

  reset() {
    this.#group?.reset();
  }

  /** Load again what may still grow, or the runs that `wanted(run)` names. */
  async refresh(wanted = mayChange) {
    const choice = this.#choice;
    const runs = this.#page.runs.filter(wanted);
    const found = await this.#load(runs, null, "step");
    if (choice !== this.#choice) return;
    for (const [id, { series, newest }] of found) {
      this.#whole.set(id, series);
      this.#newest.set(id, newest);
    }
    if (this.#group.zoom) this.#refineSoon();
    this.#touch();
  }

  paint(now) {
    this.#chart?.paint(now);
  }

  /** Colour and dash of the run at `place`: no two of ten share both. */
  lookOf(place) {
    const round = Math.floor(place / lineColours());
    return { colour: place % lineColours(), dash: place + round };
  }

  /** Return whether the good end of the series is the low one. */
  get lowest() {
    return LOWEST_IS_BEST.test(this.name);
  }

  /** Return the newest value of a run, and the one at the good end: {last, odd, extreme}. */
  valuesOf(id) {
    const series = this.#whole.get(id);
    const end = (series?.xs.length ?? 0) - 1;
    if (end < 0) return { last: null, odd: "", extreme: null };
    const { lowest } = this;
    const ends = (lowest ? series.mins : series.maxs).filter((value) => value !== null);
    const extreme = ends.length ? ends.reduce((one, other) => (one < other === lowest ? one : other)) : null;
    return { ...this.#newest.get(id), extreme };
  }

  #build() {
    this.#group = new ChartGroup({ mapping: () => null, onChange: () => this.#zoomChanged() });
    this.#chart = new Chart({
      title: this.name,
      axis: /^(gpu|host)\//.test(this.name) ? "machine" : "step",
      group: this.#group,
      view: this.#view,
      place: gettext("compared runs"),
      height: HEIGHT,
      onSeen: this.#onSeen,
      lines: this.#page.runs.map((run, place) => this.#line(run, place)),
    });
    this.#place.replaceChildren(this.#group.button, this.#chart.root);
  }

  #line(run, place) {
    const own = () => (this.#group.zoom && this.#fine.get(run.id)) || this.#whole.get(run.id);
    return {
      name: this.name,
      label: `${run.name} #${run.id}`,
      ...this.lookOf(place),
      version: () => this.#version,
      latest: () => {
        const { last, odd } = this.valuesOf(run.id);
        return { value: last, nonfinite: odd };
      },
      extent: () => {
        const series = this.#whole.get(run.id);
        if (!series?.xs.length) return null;
        const { by, forward } = this.#mapping(run);
        const column = columnOf(series, by);
        return [forward(column[0]), forward(column.at(-1))];
      },
      read: (from, to, buckets) => {
        const series = own();
        if (!series) return { xs: [], means: [], mins: [], maxs: [], banded: false, points: 0 };
        const { by, forward, back } = this.#mapping(run);
        const drawn = drawable(series, back(from), back(to), buckets, by);
        drawn.xs = ascending(drawn.xs.map(forward));
        const times = columnOf(series, by);
        const placeOf = (x) => (by === "time" ? times[Math.min(lowerBound(series.xs, x), times.length - 1)] : x);
        return { ...drawn, odd: series.odd.map((entry) => ({ ...entry, x: forward(placeOf(entry.x)) })) };
      },
    };
  }

  #mapping(run) {
    return mapping(xAxisFor(this.#chart.axis, this.#view.over), clockOf(run));
  }

  #zoomChanged() {
    if (this.#zoomed !== this.#group.zoom) this.#fine.clear();
    this.#zoomed = this.#group.zoom;
    if (this.#zoomed) this.#refineSoon();
    this.#touch();
  }

  #refineSoon() {
    clearTimeout(this.#timer);
    if (!EPOCH.test(this.#choice)) this.#timer = setTimeout(() => this.#refine(this.#group.zoom), SETTLE_MS);
  }

  async #refine(zoom) {
    const { by } = this.#mapping(this.#page.runs[0]);
    try {
      const parts = this.#page.runs.map((run) => {
        const { back } = this.#mapping(run);
        return this.#load([run], { from: back(zoom.from), to: back(zoom.to) }, by);
      });
      const found = await Promise.all(parts);
      if (this.#group.zoom !== zoom) return;
      for (const part of found) for (const [id, { series }] of part) if (series.xs.length) this.#fine.set(id, series);
    } catch {
      return; // the coarse curves stay: they are right, only less fine
    }
    this.#touch();
  }

  /** Load the curves of a range of steps or times, of all if it is null. */
  async #load(runs, range, by) {
    if (EPOCH.test(this.#choice)) return this.#loadEpochs(runs);
    const { name } = this;
    const query = new URLSearchParams({ name, buckets: BUCKETS, by, ...range });
    const answers = await Promise.all(
      runs.map((run) => getJson(`${run.points}?${query}`, this.#page.addresses.login)),
    );
    const found = new Map();
    runs.forEach((run, index) => {
      const chart = answers[index].series[name];
      if (chart) found.set(run.id, loaded(chart));
    });
    return found;
  }

  async #loadEpochs(runs) {
    const { name } = this;
    const answers = await Promise.all(runs.map((run) => this.#epochsOf(run, name)));
    const found = new Map();
    runs.forEach((run, index) => {
      const epochs = answers[index].filter(({ values, nonfinite }) => name in values || name in nonfinite);
      if (epochs.length) found.set(run.id, loaded(chartOfEpochs(name, epochs)));
    });
    return found;
  }

  async #epochsOf(run, name) {
    const epochs = [];
    for (;;) {
      const query = new URLSearchParams({ name, limit: EPOCHS_A_PAGE, offset: epochs.length });
      const { count, items } = await getJson(`${run.epochs}?${query}`, this.#page.addresses.login);
      epochs.push(...items);
      if (!items.length || epochs.length >= count) return epochs;
    }
  }

  #touch() {
    this.#version += 1;
    this.#onSeen();
  }
}

function clockOf(run) {
  return { start: run.start, stepsPerEpoch: run.steps_per_epoch, epochs: [] };
}

/** The newest value is shown beside the curve, whose last place may be the mean of many points. */
function loaded(chart) {
  const last = (chart.raw ? chart.values : chart.last).at(-1) ?? null;
  const [place, name] = chart.nonfinite.at(-1) ?? [];
  const odd = last === null && place === chart.times.length - 1 ? name : "";
  return { series: columnsFromChart(chart), newest: { last, odd } };
}

function chartOfEpochs(name, epochs) {
  const chart = { axis: "step", raw: true, count: epochs.length, nonfinite: [] };
  chart.steps = epochs.map(({ step }) => step);
  chart.times = epochs.map(({ at }) => Date.parse(at) / 1000);
  chart.values = epochs.map(({ values }) => values[name] ?? null);
  epochs.forEach(({ nonfinite }, index) => {
    if (nonfinite[name]) chart.nonfinite.push([index, nonfinite[name]]);
  });
  return chart;
}
