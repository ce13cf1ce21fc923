// Points as sorted columns of bounded length. Uses neither DOM nor clock.
//
// Each index is a bucket of `weights` points from `firsts` to `xs` (steps, or seconds over time) with the mean, minimum
// and maximum of its finite points, whose number is in `finites`; a single point is a bucket of weight 1. Values that
// are not finite are in `odd` as {x, name, count}, so that thinning never hides one: `count` of them from x on, and
// before the next entry.

// About twice the pixels of the widest screen; 100 series then take less than 50 MB.
export const MOST_BUCKETS = 8192;
// The maximum size of `odd`: if a run produces only NaN, the first and the last entries are kept.
const MOST_ODD = 400;
const COLUMNS = ["firsts", "xs", "times", "means", "mins", "maxs", "weights", "finites"];
// If several are in one place, the first of these names is shown.
const ODD_NAMES = ["nan", "inf", "-inf"];

export function emptyColumns(axis) {
  return {
    axis,
    firsts: [],
    xs: [],
    times: [],
    means: [],
    mins: [],
    maxs: [],
    weights: [],
    finites: [],
    odd: [],
  };
}

/** Return the columns of a chart from the portal, complete (`raw`) or downsampled. */
export function columnsFromChart(chart) {
  const columns = emptyColumns(chart.axis);
  columns.times = [...chart.times];
  columns.xs = chart.axis === "time" ? [...chart.times] : [...chart.steps];
  if (chart.raw) {
    columns.firsts = [...columns.xs];
    columns.means = [...chart.values];
    columns.mins = [...chart.values];
    columns.maxs = [...chart.values];
    columns.weights = columns.xs.map(() => 1);
    columns.finites = chart.values.map((value) => Number(value !== null));
  } else {
    columns.firsts = chart.axis === "time" ? [...columns.xs] : [...chart.first_steps];
    columns.means = [...chart.mean];
    columns.mins = [...chart.min];
    columns.maxs = [...chart.max];
    columns.weights = [...chart.counts];
    columns.finites = [...chart.counts];
    chart.nonfinite.forEach(([index], place) => (columns.finites[index] -= chart.nonfinite_counts[place]));
  }
  (chart.nonfinite ?? []).forEach(([index, label], place) => {
    const first = chart.axis === "step" ? chart.nonfinite_steps?.[place] : undefined;
    noteOdd(columns, first ?? columns.xs[index], label, chart.nonfinite_counts?.[place]);
  });
  return columns;
}

/** Add a point; `label` names a value that is not finite, which is then null. */
export function addPoint(columns, x, time, value, label = "") {
  if (label) noteOdd(columns, x, label);
  const end = columns.xs.length - 1;
  if (end < 0 || x > columns.xs[end]) {
    push(columns, x, x, time, value, value, value, 1, Number(value !== null));
    return;
  }
  const index = lowerBound(columns.xs, x);
  if (columns.firsts[index] > x) insert(columns, index, x, time, value);
  else join(columns, index, time, value);
}

/** Add a point to a bucket, so that no logged value hides another. */
function join(columns, index, time, value) {
  const { means, mins, maxs, weights, finites, times } = columns;
  times[index] = Math.max(times[index], time);
  if (value !== null) {
    finites[index] += 1;
    means[index] = finites[index] > 1 ? means[index] + (value - means[index]) / finites[index] : value;
    mins[index] = least(mins[index], value);
    maxs[index] = greatest(maxs[index], value);
  }
  weights[index] += 1;
}

function push(columns, first, x, time, mean, min, max, weight, finite) {
  columns.firsts.push(first);
  columns.xs.push(x);
  columns.times.push(time);
  columns.means.push(mean);
  columns.mins.push(min);
  columns.maxs.push(max);
  columns.weights.push(weight);
  columns.finites.push(finite);
}

function insert(columns, index, x, time, value) {
  columns.firsts.splice(index, 0, x);
  columns.xs.splice(index, 0, x);
  columns.times.splice(index, 0, time);
  columns.means.splice(index, 0, value);
  columns.mins.splice(index, 0, value);
  columns.maxs.splice(index, 0, value);
  columns.weights.splice(index, 0, 1);
  columns.finites.splice(index, 0, Number(value !== null));
}

function noteOdd(columns, x, name, count = 1) {
  const { odd } = columns;
  const known = odd.find((entry) => entry.x === x);
  if (known) {
    if (ODD_NAMES.indexOf(name) < ODD_NAMES.indexOf(known.name)) known.name = name;
    known.count += count;
    return;
  }
  let place = odd.length;
  while (place > 0 && odd[place - 1].x > x) place -= 1;
  odd.splice(place, 0, { x, name, count });
  if (odd.length <= MOST_ODD) return;
  const [left] = odd.splice(MOST_ODD / 2, 1);
  odd[MOST_ODD / 2 - 1].count += left.count;
}

/** Return the number of values in `odd`. */
export function oddCount(odd) {
  return odd.reduce((sum, { count }) => sum + count, 0);
}

/** Return the buckets with `from` <= x < `to`; the same object if those are all. */
export function between(columns, from, to) {
  const begin = lowerBound(columns.xs, from);
  const end = lowerBound(columns.xs, to);
  if (begin === 0 && end === columns.xs.length) return columns;
  const part = emptyColumns(columns.axis);
  for (const name of COLUMNS) part[name] = columns[name].slice(begin, end);
  part.odd = columns.odd.filter(({ x }) => x >= from && x < to);
  return part;
}

/** Return the buckets of several columns, concatenated; `parts` has at least one. */
export function joined(parts) {
  if (parts.length === 1) return parts[0];
  const whole = emptyColumns(parts[0].axis);
  for (const name of COLUMNS) whole[name] = parts.flatMap((part) => part[name]);
  whole.odd = parts.flatMap((part) => part.odd);
  return whole;
}

export function pointsOf(columns) {
  return columns.weights.reduce((sum, weight) => sum + weight, 0);
}

/** Merge neighbours until about half of the bound is left; minimum and maximum are kept. */
export function thin(columns, most = MOST_BUCKETS) {
  const length = columns.xs.length;
  if (length <= most) return;
  let total = 0;
  for (const weight of columns.weights) total += weight;
  const target = Math.ceil((2 * total) / most);
  const merged = emptyColumns(columns.axis);
  let index = 0;
  while (index < length) {
    let end = index + 1;
    let weight = columns.weights[index];
    while (end < length && weight + columns.weights[end] <= target) {
      weight += columns.weights[end];
      end += 1;
    }
    const bucket = merge(columns, index, end);
    push(
      merged,
      columns.firsts[index],
      columns.xs[end - 1],
      columns.times[end - 1],
      bucket.mean,
      bucket.min,
      bucket.max,
      weight,
      bucket.finite,
    );
    index = end;
  }
  for (const column of COLUMNS) columns[column] = merged[column];
}

function merge(columns, begin, end) {
  let min = null;
  let max = null;
  let sum = 0;
  let finite = 0;
  for (let index = begin; index < end; index += 1) {
    const mean = columns.means[index];
    if (columns.mins[index] !== null) {
      min = least(min, columns.mins[index]);
      max = greatest(max, columns.maxs[index]);
    }
    if (mean === null) continue;
    sum += mean * columns.finites[index];
    finite += columns.finites[index];
  }
  // Summing rounds, but the mean of equal values must be that value.
  return { mean: finite ? Math.min(max, Math.max(min, sum / finite)) : null, min, max, finite };
}

/**
 * Return the columns to draw between `from` and `to` of the column `by` ("step" or "time"), in at most about `buckets`
 * columns: {xs, means, mins, maxs, banded, points}. Neighbours are merged until a column represents about as many
 * points as the others, so that new points look as smooth as the history; and at fixed positions, so that a growing
 * curve does not flicker.
 */
export function drawable(columns, from, to, buckets, by = columns.axis) {
  const column = columnOf(columns, by);
  const begin = Math.max(0, lowerBound(column, from) - 1);
  const end = Math.min(column.length, lowerBound(column, to) + 2);
  let points = 0;
  for (let index = begin; index < end; index += 1) points += columns.weights[index];
  let target = 1;
  while (points / target > buckets) target *= 2;
  if (target === 1) return whole(columns, column, begin, end, points);
  const drawn = { xs: [], means: [], mins: [], maxs: [], banded: true, points };
  let before = 0;
  for (let index = 0; index < begin; index += 1) before += columns.weights[index];
  for (let index = begin; index < end;) {
    const place = Math.floor(before / target);
    const first = index;
    do {
      before += columns.weights[index];
      index += 1;
    } while (index < end && Math.floor(before / target) === place);
    const bucket = merge(columns, first, index);
    drawn.xs.push(column[index - 1]);
    drawn.means.push(bucket.mean);
    drawn.mins.push(bucket.min);
    drawn.maxs.push(bucket.max);
  }
  return drawn;
}

/** Return the ascending column of steps or of times; samples of the machine only have times. */
export function columnOf(columns, by) {
  return by === "time" ? columns.times : columns.xs;
}

function whole(columns, column, begin, end, points) {
  return {
    xs: column.slice(begin, end),
    means: columns.means.slice(begin, end),
    mins: columns.mins.slice(begin, end),
    maxs: columns.maxs.slice(begin, end),
    banded: points > end - begin,
    points,
  };
}

/** Keep times in order if a host's clock was set back, because a curve cannot go back in x. */
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
