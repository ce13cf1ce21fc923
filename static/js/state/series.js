// Points of one series as sorted columns of bounded length. Knows no DOM, no clock.
//
// Each index is a bucket of `weights` points from `firsts` to `xs` (steps, or seconds for a series over time)
// with its mean, minimum and maximum; a single point is a bucket of weight 1. Values that are no finite
// numbers stand in `odd` as {x, name}, so that thinning can never hide one.

// About twice the pixels of the widest screen; 100 series then stay below 50 MB.
export const MOST_BUCKETS = 8192;
// Of many series each holds fewer, so that a page with thousands of them stays as small.
const MOST_IN_ALL = 100 * MOST_BUCKETS;
const FEWEST_BUCKETS = 64;
// The first and the last of these are kept when a run produces nothing but NaN.
const MOST_ODD = 400;

export function emptySeries(name) {
  return {
    name,
    axis: axisOf(name),
    attempt: null,
    since: -Infinity,
    count: 0,
    firsts: [],
    xs: [],
    times: [],
    means: [],
    mins: [],
    maxs: [],
    weights: [],
    odd: [],
    oddCount: 0,
    version: 0,
  };
}

/** Return how many buckets each of `count` series may hold. */
export function bucketsEach(count) {
  return Math.max(FEWEST_BUCKETS, Math.min(MOST_BUCKETS, Math.floor(MOST_IN_ALL / Math.max(1, count))));
}

/** Samples of the machine are drawn over time, everything else over steps. */
export function axisOf(name) {
  return name.startsWith("gpu/") || name.startsWith("host/") ? "time" : "step";
}

/** Return a series from a chart of the history, whole (`raw`) or downsampled. */
export function seriesFromChart(name, chart) {
  const series = emptySeries(name);
  series.axis = chart.axis;
  series.attempt = chart.attempt ?? null;
  series.count = chart.count;
  series.times = [...chart.times];
  series.xs = chart.axis === "time" ? [...chart.times] : [...chart.steps];
  if (chart.raw) {
    series.firsts = [...series.xs];
    series.means = [...chart.values];
    series.mins = [...chart.values];
    series.maxs = [...chart.values];
    series.weights = series.xs.map(() => 1);
  } else {
    series.firsts = chart.axis === "time" ? [...series.xs] : [...chart.first_steps];
    series.means = [...chart.mean];
    series.mins = [...chart.min];
    series.maxs = [...chart.max];
    // How many points each bucket holds is not told: on average this many.
    const weight = Math.max(1, chart.count / Math.max(1, series.xs.length));
    series.weights = series.xs.map(() => weight);
  }
  for (const [index, label] of chart.nonfinite ?? []) noteOdd(series, series.xs[index], label);
  thin(series);
  return series;
}

/**
 * Add points of one attempt. `odd` maps indexes to "nan", "inf" or "-inf"; a null without a name was not reported.
 *
 * A later attempt that begins at or before points of an earlier one replaces them from its first step on,
 * because it trains those steps again.
 */
export function addPoints(series, attempt, xs, times, values, odd, most = MOST_BUCKETS) {
  if (!xs.length) return;
  const end = series.axis === "step" ? settleAttempt(series, attempt, xs) : xs.length;
  for (let index = 0; index < end; index += 1) {
    const label = odd?.get(index);
    if (values[index] === null && !label) continue;
    if (label) noteOdd(series, xs[index], label);
    addPoint(series, xs[index], times[index], label ? null : values[index]);
  }
  if (series.xs.length > most) thin(series, most);
  series.version += 1;
}

/** Return how many of the points count: of an earlier attempt only those below the first step of the later one. */
function settleAttempt(series, attempt, xs) {
  if (series.attempt !== null && attempt < series.attempt) {
    const replaced = xs.findIndex((x) => x >= series.since);
    return replaced < 0 ? xs.length : replaced;
  }
  if (series.attempt === null || attempt > series.attempt) {
    cutFrom(series, xs[0]);
    series.attempt = attempt;
    series.since = xs[0];
  }
  return xs.length;
}

function addPoint(series, x, time, value) {
  const end = series.xs.length - 1;
  if (end < 0 || x > series.xs[end]) {
    push(series, x, x, time, value, value, value, 1);
    series.count += 1;
    return;
  }
  const index = lowerBound(series.xs, x);
  if (series.firsts[index] > x) {
    insert(series, index, x, time, value);
    series.count += 1;
  } else if (series.weights[index] === 1) {
    series.means[index] = series.mins[index] = series.maxs[index] = value;
    series.times[index] = time;
    if (value !== null) forgetOdd(series, x);
  } else if (value !== null) {
    series.mins[index] = least(series.mins[index], value);
    series.maxs[index] = greatest(series.maxs[index], value);
  }
}

function push(series, first, x, time, mean, min, max, weight) {
  series.firsts.push(first);
  series.xs.push(x);
  series.times.push(time);
  series.means.push(mean);
  series.mins.push(min);
  series.maxs.push(max);
  series.weights.push(weight);
}

function insert(series, index, x, time, value) {
  series.firsts.splice(index, 0, x);
  series.xs.splice(index, 0, x);
  series.times.splice(index, 0, time);
  series.means.splice(index, 0, value);
  series.mins.splice(index, 0, value);
  series.maxs.splice(index, 0, value);
  series.weights.splice(index, 0, 1);
}

function cutFrom(series, x) {
  const index = lowerBound(series.xs, x);
  for (let gone = index; gone < series.xs.length; gone += 1) series.count -= series.weights[gone];
  series.count = Math.max(0, series.count);
  for (const column of COLUMNS) series[column].length = index;
  series.odd = series.odd.filter((entry) => entry.x < x);
  series.oddCount = series.odd.length;
}

const COLUMNS = ["firsts", "xs", "times", "means", "mins", "maxs", "weights"];

function noteOdd(series, x, name) {
  const known = series.odd.find((entry) => entry.x === x);
  if (known) {
    known.name = name;
    return;
  }
  series.odd.push({ x, name });
  series.oddCount += 1;
  if (series.odd.length > MOST_ODD) series.odd.splice(MOST_ODD / 2, 1);
}

function forgetOdd(series, x) {
  const index = series.odd.findIndex((entry) => entry.x === x);
  if (index >= 0) {
    series.odd.splice(index, 1);
    series.oddCount -= 1;
  }
}

/** Merge neighbours until at most about half of the bound is left; minimum and maximum survive. */
function thin(series, most = MOST_BUCKETS) {
  const length = series.xs.length;
  if (length <= most) return;
  let total = 0;
  for (const weight of series.weights) total += weight;
  const target = Math.ceil((2 * total) / most);
  const merged = emptySeries(series.name);
  let index = 0;
  while (index < length) {
    let end = index + 1;
    let weight = series.weights[index];
    while (end < length && weight + series.weights[end] <= target) {
      weight += series.weights[end];
      end += 1;
    }
    const bucket = merge(series, index, end);
    push(
      merged,
      series.firsts[index],
      series.xs[end - 1],
      series.times[end - 1],
      bucket.mean,
      bucket.min,
      bucket.max,
      weight,
    );
    index = end;
  }
  for (const column of COLUMNS) series[column] = merged[column];
}

function merge(series, begin, end) {
  let min = null;
  let max = null;
  let sum = 0;
  let weight = 0;
  for (let index = begin; index < end; index += 1) {
    const mean = series.means[index];
    if (series.mins[index] !== null) {
      min = least(min, series.mins[index]);
      max = greatest(max, series.maxs[index]);
    }
    if (mean === null) continue;
    sum += mean * series.weights[index];
    weight += series.weights[index];
  }
  return { mean: weight ? sum / weight : null, min, max };
}

/**
 * Return what to draw between `from` and `to` of the column `by` ("step" or "time") in at most about `buckets` columns:
 * {xs, means, mins, maxs, banded, points}. Neighbours merge until a column stands for about as many points as the
 * others, so that a live tail is as smooth as the history before it; and by fixed places, so that a growing curve
 * does not shimmer.
 */
export function drawable(series, from, to, buckets, by = series.axis) {
  const column = columnOf(series, by);
  const begin = Math.max(0, lowerBound(column, from) - 1);
  const end = Math.min(column.length, lowerBound(column, to) + 2);
  let points = 0;
  for (let index = begin; index < end; index += 1) points += series.weights[index];
  let target = 1;
  while (points / target > buckets) target *= 2;
  if (target === 1) return whole(series, column, begin, end, points);
  const drawn = { xs: [], means: [], mins: [], maxs: [], banded: true, points };
  let before = 0;
  for (let index = 0; index < begin; index += 1) before += series.weights[index];
  for (let index = begin; index < end;) {
    const place = Math.floor(before / target);
    const first = index;
    do {
      before += series.weights[index];
      index += 1;
    } while (index < end && Math.floor(before / target) === place);
    const bucket = merge(series, first, index);
    drawn.xs.push(column[index - 1]);
    drawn.means.push(bucket.mean);
    drawn.mins.push(bucket.min);
    drawn.maxs.push(bucket.max);
  }
  return drawn;
}

/** Return the ascending column of steps or of times; a series of the machine has times alone. */
export function columnOf(series, by) {
  return by === "time" ? series.times : series.xs;
}

function whole(series, column, begin, end, points) {
  return {
    xs: column.slice(begin, end),
    means: series.means.slice(begin, end),
    mins: series.mins.slice(begin, end),
    maxs: series.maxs.slice(begin, end),
    banded: points > end - begin,
    points,
  };
}

/** Keep times in order where a host's clock was set back: a curve cannot go back in x. */
export function ascending(xs) {
  for (let index = 1; index < xs.length; index += 1) {
    if (!(xs[index] > xs[index - 1])) xs[index] = xs[index - 1] + 1e-6;
  }
  return xs;
}

/** Return the first index whose value is not below `x`. */
export function lowerBound(sorted, x) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

function least(left, right) {
  return left === null || right < left ? right : left;
}

function greatest(left, right) {
  return left === null || right > left ? right : left;
}
