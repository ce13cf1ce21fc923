// The value of a knob that one of its rows shows, and the one before its last change. Pure.

import { appliedAt } from "../commands/interventions.js";
import { isByGroup } from "../commands/text.js";

/** Return the value of a group, or of all groups ("") if they agree; null if they differ. */
export function valueOf(value, group) {
  if (!isByGroup(value)) return value ?? null;
  if (group) return value[group] ?? null;
  const all = Object.values(value);
  return all.every((one) => one === all[0]) ? (all[0] ?? null) : null;
}

/**
 * Return {before, after} of the last change of a knob's row; null if there is none with a single value before it.
 * `asked` are the commands that set the knob. Their order is that of sending: a scheduled one may be applied later.
 */
export function lastChange(asked, knob, group) {
  let last = null;
  for (const command of asked) {
    const change = command.state === "applied" ? changeOf(command, knob, group) : null;
    if (!change || change.before === change.after) continue;
    const at = appliedAt(command);
    if (!last || at >= last.at) last = { ...change, at };
  }
  return last && last.before !== null ? { before: last.before, after: last.after } : null;
}

/** Return the change of a row's value by an applied command, null if the command was for another group. */
function changeOf({ arguments: given, old, new: now }, { groups }, group) {
  if (isByGroup(now)) return { before: valueOf(old, group), after: valueOf(now, group) };
  if (groups.length < 2 || given.group === group) return { before: old ?? null, after: now };
  // One value for all groups does not undo the change of a single group, whose own row does.
  return group ? null : { before: null, after: undefined };
}
