// The unacknowledged alerts, and the order in which alerts are listed. Pure.

const RANKS = { critical: 0, warning: 1, info: 2 };
const STATES = { open: 0, acknowledged: 1, cleared: 2 };

/** Return the active alerts that are not acknowledged, the most severe first, of equal severity the newest. */
export function openAlerts(alerts) {
  return inOrder(alerts.filter(({ state }) => state === "open"));
}

/**
 * Return alerts in the order of the panel: open ones first, then acknowledged ones, both by severity and then by time,
 * the newest first. Cleared alerts come last, the newest first.
 */
export function inOrder(alerts) {
  const rank = ({ state, severity }) => (state === "cleared" ? 0 : (RANKS[severity] ?? 3));
  return alerts.toSorted(
    (left, right) => (STATES[left.state] ?? 3) - (STATES[right.state] ?? 3) || rank(left) - rank(right) || right.id - left.id,
  );
}
