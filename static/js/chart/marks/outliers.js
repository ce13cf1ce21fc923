// Which values a chart leaves off its scale when outliers are ignored. Pure.

const LOW = 0.05;
const HIGH = 0.95;
// A value is off the scale if it lies further beyond those shares of all than they lie apart.
const FENCE = 1;
const FEWEST = 20;

/** Return [low, high] of what is drawn of `columns`, lists of values, without outliers; null if there are none. */
export function rangeWithoutOutliers(columns) {
  const values = columns.flat().filter((value) => value !== null && value !== undefined);
  if (values.length < FEWEST) return null;
  values.sort((left, right) => left - right);
  const [low, high] = [LOW, HIGH].map((share) => values[Math.round(share * (values.length - 1))]);
  const room = FENCE * (high - low);
  // Of a line that is flat but for a few points everything else would be an outlier.
  if (!(room > 0)) return null;
  const inside = values.filter((value) => value >= low - room && value <= high + room);
  return inside.length === values.length ? null : [inside[0], inside.at(-1)];
}

/** Return the points of a line that lie off the scale from `low` to `high`: [{x, value, isAbove}]. */
export function offScale(xs, values, low, high) {
  return xs
    .map((x, place) => ({ x, value: values[place], isAbove: values[place] > high }))
    .filter(({ value }) => value !== null && value !== undefined && (value > high || value < low));
}
