// Smoothing of a curve. Pure.

/**
 * Return the exponential moving average of `values`; `weight` (0 to 0.99) is what the past counts.
 *
 * Debiased: divided by the sum of the weights so far, so that the first values are not drawn towards zero.
 * Nulls stay gaps and count nothing.
 */
export function smoothed(values, weight) {
  let sum = 0;
  let share = 0;
  return values.map((value) => {
    if (value === null || value === undefined) return value;
    sum = weight * sum + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return sum / share;
  });
}
