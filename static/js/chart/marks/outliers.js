// The values outside of a chart's scale if outliers are ignored. Pure.

const LOW = 0.05;
const HIGH = 0.95;
// An outlier is farther from the range between the quantiles LOW and HIGH than FENCE times the width of this range.
const FENCE = 1;
const FEWEST = 20;

/** Return [low, high] of the values in `columns`, without outliers; null if there are no outliers. */
export function rangeWithoutOutliers(columns) {
  const values = columns.flat().filter((value) => value !== null && value !== undefined);
  if (values.length < FEWEST) return null;
  values.sort((left, right) => left - right);
  const [low, high] = [LOW, HIGH].map((share) => values[Math.round(share * (values.length - 1))]);
  const room = FENCE * (high - low);
  // If a line is flat except for a few points, all of these would be outliers.
  if (!(room > 0)) return null;
  const inside = values.filter((value) => value >= low - room && value <= high + room);
  return inside.length === values.length ? null : [inside[0], inside.at(-1)];
}

/** Return the points of a line that are outside of the scale from `low` to `high`: [{x, value, isAbove}]. */
export function offScale(xs, values, low, high) {
  return xs
    .map((x, place) => ({ x, value: values[place], isAbove: values[place] > high }))
    .filter(({ value }) => value !== null && value !== undefined && (value > high || value < low));
}
