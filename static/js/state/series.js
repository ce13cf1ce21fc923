// A series of a run: the points of each attempt, and the line that they form. Uses neither DOM nor clock.
//
// Points are stored by attempt, and by lap if the step went back within one, and are never replaced. The drawn line
// follows from them: an attempt or lap counts up to the first step of a later one, which repeated those steps; the rest
// of it is an earlier line.

import { addPoint, between, columnsFromChart, emptyColumns, joined, MOST_BUCKETS, thin } from "./columns.js";

// If there are many series, each has fewer points, so that a page with thousands of series does not grow.
const MOST_IN_ALL = 100 * MOST_BUCKETS;
const FEWEST_BUCKETS = 64;
// The number of earlier lines that are drawn, the latest: enough for a loop over ten folds.
const MOST_EARLIER = 9;
// Greater than any lap number, so that attempt and lap together form a number that orders the parts.
const LAPS = 1000;
const NOTHING = { step: emptyColumns("step"), time: emptyColumns("time") };

export function emptySeries(name, axis = axisOf(name)) {
  return { name, axis, parts: new Map(), version: 0, lines: null, hollow: false, waiting: null, held: 0 };
}

/** Return how many buckets each of `count` series may have. */
export function bucketsEach(count) {
  return Math.max(FEWEST_BUCKETS, Math.min(MOST_BUCKETS, Math.floor(MOST_IN_ALL / Math.max(1, count))));
}

/** Return the axis of a series: samples of the machine are plotted over time, everything else over steps. */
export function axisOf(name) {
  return name.startsWith("gpu/") || name.startsWith("host/") ? "time" : "step";
}

/** Return a series from the portal's answer: {axis, attempts: {number: chart}, laps: {number: {lap: chart}}}. */
export function seriesFromCharts(name, { axis, attempts, laps = {} }) {
  const series = emptySeries(name, axis);
  const numbers = new Set([...Object.keys(attempts), ...Object.keys(laps)].map(Number));
  for (const attempt of [...numbers].sort((left, right) => left - right)) {
    const first = attempts[attempt] ? [[0, attempts[attempt]]] : [];
    for (const [lap, chart] of [...first, ...Object.entries(laps[attempt] ?? {})])
      series.parts.set(attempt * LAPS + Number(lap), columnsFromChart(chart));
  }
  return series;
}

/**
 * Add points of one lap of an attempt. `odd` maps indexes to "nan", "inf" or "-inf"; a null without a name was not
 * reported.
 */
export function addPoints(series, attempt, xs, times, values, odd, most = MOST_BUCKETS, lap = 0) {
  const part = partOf(series, attempt * LAPS + lap);
  for (let index = 0; index < xs.length; index += 1) {
    const label = odd?.get(index) ?? "";
    if (values[index] !== null || label) addPoint(part, xs[index], times[index], label ? null : values[index], label);
  }
  const bound = Math.max(FEWEST_BUCKETS, Math.floor(most / series.parts.size));
  if (part.xs.length > bound) thin(part, bound);
  series.version += 1;
}

function partOf(series, key) {
  let part = series.parts.get(key);
  if (!part) {
    part = emptyColumns(series.axis);
    const keys = [...series.parts.keys()];
    series.parts.set(key, part);
    // The points of an earlier attempt arrive last if its supervisor had died.
    if (keys.some((known) => known > key))
      series.parts = new Map([...series.parts].sort(([left], [right]) => left - right));
  }
  return part;
}

/** Return the columns of the line as attempt `last`, or the newest one, left it. */
export function lineOf(series, last = Infinity) {
  return linesOf(series, last).line;
}

/** Return the parts that are not in that line: [{attempt, lap, columns}], the newest last. */
export function earlierOf(series, last = Infinity) {
  return linesOf(series, last).earlier;
}

function linesOf(series, last) {
  const known = series.lines;
  if (known?.version === series.version && known.last === last) return known;
  series.lines = { version: series.version, last, ...split(series, last) };
  return series.lines;
}

function split({ parts, axis }, last) {
  const counted = [];
  const earlier = [];
  // The lowest step of later attempts and laps.
  let bound = Infinity;
  for (const [key, columns] of [...parts].reverse()) {
    if (!columns.xs.length) continue;
    const [attempt, lap] = [Math.floor(key / LAPS), key % LAPS];
    if (attempt > last) {
      if (axis === "step") earlier.unshift({ attempt, lap, columns });
      continue;
    }
    if (axis === "time") {
      counted.unshift(columns);
      continue;
    }
    counted.unshift(between(columns, -Infinity, bound));
    if (columns.xs.at(-1) >= bound) earlier.unshift({ attempt, lap, columns: between(columns, bound, Infinity) });
    bound = Math.min(bound, columns.firsts[0]);
  }
  return { line: counted.length ? joined(counted) : NOTHING[axis], earlier: earlier.slice(-MOST_EARLIER) };
}
