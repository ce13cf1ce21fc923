// Which alerts nobody has seen to, in which order they are told. Pure.

const RANKS = { critical: 0, warning: 1, info: 2 };

/** Return the alerts that last and that nobody acknowledged, the most severe first, of equals the newest. */
export function openAlerts(alerts) {
  return alerts
    .filter(({ state }) => state === "open")
    .sort((left, right) => (RANKS[left.severity] ?? 3) - (RANKS[right.severity] ?? 3) || right.id - left.id);
}
