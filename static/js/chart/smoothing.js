// Smoothing of a curve. Pure.

// A Gaussian is cut off here: points beyond it weigh less than 0.3 % of the middle.
const REACH = 3.4;
export const KINDS = ["ema", "mean", "gaussian"];

/** Return the number of points whose mean has the same variance as an exponential average with `weight` (0 to 0.99). */
export function spanOf(weight) {
  return Math.round((1 + weight) / (1 - weight));
}

/**
 * Return `values` smoothed with `weight` (0 to 0.99). `kind`: "ema", the exponential moving average, in which the past
 * has `weight`; "mean", the mean of the surrounding points; "gaussian", weighted by a normal distribution.
 *
 * Nulls stay gaps and have no weight.
 */
export function smoothed(values, weight, kind = "ema") {
  if (!weight) return values;
  if (kind === "mean") return weighted(values, boxOf(spanOf(weight)));
  if (kind === "gaussian") return weighted(values, bellOf(spanOf(weight)));
  return exponential(values, weight);
}

function boxOf(span) {
  return new Array(Math.floor(span / 2) + 1).fill(1);
}

/** Return a Gaussian as wide as the box of the same span: its standard deviation is about span / sqrt(12). */
function bellOf(span) {
  const sigma = span / Math.sqrt(12);
  return Array.from({ length: Math.ceil(REACH * sigma) + 1 }, (_, away) => Math.exp(-0.5 * (away / sigma) ** 2));
}

const isGap = (value) => value === null || value === undefined;

/**
 * Return the debiased average: divided by the sum of the weights so far, so that the first values are not pulled to
 * zero.
 */
function exponential(values, weight) {
  let sum = 0;
  let share = 0;
  return values.map((value) => {
    if (isGap(value)) return value;
    sum = weight * sum + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return sum / share;
  });
}

/**
 * Return an average weighted by distance: `kernel` has a weight for each distance. At the ends, one side has fewer
 * points.
 */
function weighted(values, kernel) {
  return values.map((value, place) => {
    if (isGap(value)) return value;
    let sum = 0;
    let share = 0;
    const end = Math.min(values.length, place + kernel.length);
    for (let other = Math.max(0, place - kernel.length + 1); other < end; other += 1) {
      if (isGap(values[other])) continue;
      const weight = kernel[Math.abs(other - place)];
      sum += weight * values[other];
      share += weight;
    }
    return sum / share;
  });
}
