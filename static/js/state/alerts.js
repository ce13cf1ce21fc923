// The alerts that nobody has acknowledged, and the order in which alerts are listed. Pure.

const RANKS = { critical: 0, warning: 1, info: 2 };
const STATES = { open: 0, acknowledged: 1, cleared: 2 };

/** Return the alerts that last and that nobody acknowledged, the most severe first, of equals the newest. */
export function openAlerts(alerts) {
  return inOrder(alerts.filter(({ state }) => state === "open"));
}

/** Return alerts as the panel lists them: open ones first, then acknowledged ones; of these the most severe, the newest.
 *  What is over comes last, the newest first. */
export function inOrder(alerts) {
  const rank = ({ state, severity }) => (state === "cleared" ? 0 : (RANKS[severity] ?? 3));
  return alerts.toSorted(
    (left, right) => (STATES[left.state] ?? 3) - (STATES[right.state] ?? 3) || rank(left) - rank(right) || right.id - left.id,
  );
}
