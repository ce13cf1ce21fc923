// The effect of an intervention: a metric before and after it, with its spread. Pure.
//
// The points are those before and after the step at which it took effect. The curve also falls or rises without it, so
// this is an observation, not a proof of a cause.

import { oddCount, pointsOf } from "../state/columns.js";

// The number of points on each side, and the minimum.
export const WINDOW = 50;
const FEWEST = 5;
// Metrics for measuring the effect: the first one that the run has.
const EFFECT_SERIES = ["train/loss", "loss"];

/** Return the series in which effects are measured, "" if there is none. */
export function effectSeries(series) {
  const named = EFFECT_SERIES.find((name) => series.has(name));
  if (named) return named;
  const others = [...series.values()].filter((one) => one.axis === "step" && /loss/.test(one.name));
  return others[0]?.name ?? "";
}

/**
 * Return {before, after, change, isClear, isWhole} around `step`: `before` and `after` are {mean, spread, count, odd}
 * of at most `window` finite points on each side, `change` the relative change of the mean (null from a mean of 0).
 *
 * `isClear`: the mean changed by more than one standard deviation of either side. `isWhole`: no more points will arrive
 * in the window after the step. `from` and `to` are the steps of the neighbouring changes, beyond which points do not
 * count. `xs` ascend. Returns null with fewer than 5 points on a side, unless some points after the step are not
 * finite.
 */
export function effectAt(xs, values, step, { from = -Infinity, to = Infinity, window = WINDOW, odd = [] } = {}) {
  const split = firstAbove(xs, step);
  const before = summary(values, Math.max(firstAbove(xs, from), split - window), split);
  const end = Math.min(firstAbove(xs, to), split + window);
  const after = summary(values, split, end);
  after.odd = oddCount(odd.filter((entry) => entry.x > step && entry.x <= (xs[end - 1] ?? -Infinity)));
  const isWhole = end - split >= window || to < Infinity;
  if (before.count < FEWEST || (after.count < FEWEST && !after.odd)) return null;
  const difference = after.mean - before.mean;
  return {
    before,
    after,
    change: before.mean === 0 || !after.count ? null : difference / Math.abs(before.mean),
    isClear: after.odd > 0 || Math.abs(difference) > Math.max(before.spread, after.spread),
    isWhole,
  };
}

function summary(values, begin, end) {
  let count = 0;
  let mean = 0;
  let squares = 0;
  for (let index = begin; index < end; index += 1) {
    const value = values[index];
    if (value === null || value === undefined) continue;
    // Welford's algorithm, which avoids differences of large sums.
    count += 1;
    const away = value - mean;
    mean += away / count;
    squares += away * (value - mean);
  }
  return { mean: count ? mean : null, spread: count > 1 ? Math.sqrt(squares / (count - 1)) : 0, count, odd: 0 };
}

/** Return the first index whose x is above `x`. */
function firstAbove(xs, x) {
  let low = 0;
  let high = xs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Return the steps of the knob changes next to a command: {from, to}, unbounded if there is none. */
export function neighbouringChanges(commands, step) {
  let from = -Infinity;
  let to = Infinity;
  for (const { step: other } of commands) {
    if (other < step && other > from) from = other;
    if (other > step && other < to) to = other;
  }
  return { from, to };
}

/**
 * Return whether the buckets within `window` points on both sides of `step` contain one point each; otherwise finer
 * points are needed.
 */
export function isFullResolution(series, step, window = WINDOW) {
  const split = firstAbove(series.xs, step);
  const begin = Math.max(0, split - window);
  const end = Math.min(series.xs.length, split + window);
  for (let index = begin; index < end; index += 1) if (series.weights[index] > 1) return false;
  return true;
}

/** Return how many steps around `step` contain about `window` points, by the density of the line. */
export function stepsAround(line, window = WINDOW) {
  const steps = line.xs.at(-1) - line.firsts[0];
  return Math.ceil((1.5 * window * Math.max(1, steps)) / Math.max(1, pointsOf(line)));
}
