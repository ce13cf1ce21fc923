// Which alerts last, in which order they are told. Pure.

const RANKS = { critical: 0, warning: 1, info: 2 };

/** Return the alerts that are not cleared, the most severe first, of equals the newest. */
export function lastingAlerts(alerts) {
  return alerts
    .filter(({ state }) => state !== "cleared")
    .sort((left, right) => (RANKS[left.severity] ?? 3) - (RANKS[right.severity] ?? 3) || right.id - left.id);
}
