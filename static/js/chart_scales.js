// Ranges and labels of the axes of a chart. Pure.

/** Give a single point a little room to both sides. */
export function widened(min, max) {
  return min === max ? [min - 0.5, max + 0.5] : [min, max];
}

/** Leave a tenth of room above and below; a flat line lies in the middle. */
export function roomy(_, min, max) {
  if (min === null || max === null) return [0, 1];
  const room = max > min ? (max - min) * 0.08 : Math.abs(max) * 0.1 || 1;
  return [min >= 0 && min - room < 0 ? 0 : min - room, max + room];
}

/** Show per cent on the whole scale, so that machines compare at a glance. */
export function percent(_, min, max) {
  return [0, Math.max(100, max ?? 0)];
}

export function compact(x) {
  if (Math.abs(x) < 10_000) return String(x);
  return x % 1000 === 0 ? `${x / 1000}k` : `${(x / 1000).toFixed(1)}k`;
}
