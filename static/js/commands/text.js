// Descriptions of a command and its result. Pure.

import { exactValue, readableName, roundedValue } from "../shared/format.js";
import { fill, gettext, stateText } from "../shared/i18n.js";

export const UNSETTLED = new Set(["sending", "sent", "delivered"]);

/** Return the request of the command, or its effect if it was applied: "Learning rate 0.003 → 0.001". */
export function commandText(command) {
  const given = command.arguments ?? {};
  const make = WORDS[command.command];
  return make ? make(given, command) : command.command;
}

const CHECKPOINTS = { newest: gettext("newest"), best: gettext("best") };

const WORDS = {
  stop: (given) => (given.checkpoint === false ? gettext("Stop without a checkpoint") : gettext("Stop")),
  end_process: () => gettext("End the process"),
  pause: () => gettext("Pause"),
  resume: () => gettext("Resume"),
  save_checkpoint: (given) => fill(gettext("Save checkpoint {name}"), { name: given.name ?? "manual" }),
  evaluate: () => gettext("Evaluate"),
  set_knob: knobWords,
  roll_back: rollBackWords,
  branch: branchWords,
  note: (given) => fill(gettext("Note: {text}"), { text: given.text ?? "" }),
  extend: extendWords,
  cancel: () => gettext("Cancel a command"),
  withdraw: () => gettext("Withdraw from the queue"),
  move_to_front: () => gettext("Move to front of the queue"),
  set_priority: priorityWords,
  start_anyway: () => gettext("Start without waiting for another run"),
};

function knobWords(given, command) {
  const name = knobName(given.knob, given.group);
  if (command.state === "applied") return `${name} ${changeText(command)}`;
  if (given.factor !== null && given.factor !== undefined) return `${name} × ${exactValue(given.factor)}`;
  return `${name} → ${exactValue(given.value)}`;
}

function rollBackWords(given, { state, new: now }) {
  const where =
    state === "applied" && isByGroup(now)
      ? fill(gettext("Roll back to step {x}"), { x: now.step })
      : fill(gettext("Roll back to checkpoint {name}"), { name: CHECKPOINTS[given.checkpoint] ?? given.checkpoint ?? "" });
  if (!given.knob) return where;
  return `${where}, ${knobWords(given, {})}`;
}

/** Return the same text for the command logs of both runs: which run began at which checkpoint, and its changes. */
function branchWords({ run, source, step, changes = [] }) {
  const where = fill(gettext("Branch #{run} from step {x} of #{source}"), { run, x: step, source });
  return changes.length ? `${where}: ${changes.map(changeOfBranch).join(", ")}` : where;
}

/** Return a changed value of a branch: "Learning rate 0.1 → 0.05". */
export function changeOfBranch({ name, group, old, new: now }) {
  const before = old === null || old === undefined ? [] : [valueText(old)];
  return `${knobName(name, group)} ${[...before, valueText(now)].join(" → ")}`;
}

function valueText(value) {
  if (!isByGroup(value)) return exactValue(value);
  return Object.entries(value)
    .map(([group, each]) => `${group} ${exactValue(each)}`)
    .join(", ");
}

function priorityWords(given, { old, new: now }) {
  if (typeof old !== "number" || typeof now !== "number")
    return fill(gettext("Priority {value}"), { value: given.priority });
  return fill(gettext("Priority {old} → {new}"), { old, new: now });
}

function extendWords(given, command) {
  const text = fill(gettext("{count} more epochs"), { count: given.epochs });
  const { old, new: now } = command;
  return typeof old === "number" && typeof now === "number" ? `${text} (${old} → ${now})` : text;
}

/** Return the name of a knob, or of its part for one parameter group. */
export function knobName(knob, group = "") {
  return group ? `${readableName(knob ?? "")} (${group})` : readableName(knob ?? "");
}

/** Return the change by an applied command: "0.003 → 0.001 (in effect 0.0004)", by parameter group if they differ. */
export function changeText({ old, new: now, effective }) {
  if (!isByGroup(now)) return `${exactValue(old)} → ${exactValue(now)}${effectiveText(effective)}`;
  const changes = Object.keys(now).map((group) => ({
    group,
    text: `${exactValue(old?.[group])} → ${exactValue(now[group])}${effectiveText(effective?.[group])}`,
  }));
  if (changes.every(({ text }) => text === changes[0].text)) return changes[0].text;
  return changes.map(({ group, text }) => `${group} ${text}`).join(", ");
}

function effectiveText(effective) {
  if (effective === null || effective === undefined) return "";
  if (!isByGroup(effective)) return fill(gettext(" (in effect {value})"), { value: roundedValue(effective) });
  const texts = Object.entries(effective).map(([group, value]) => `${group} ${roundedValue(value)}`);
  return fill(gettext(" (in effect {value})"), { value: texts.join(", ") });
}

export function isByGroup(value) {
  return value !== null && typeof value === "object";
}

/**
 * Return when and under which condition the command takes effect, as phrases; empty if immediately and unconditionally.
 */
export function conditionsOf(command, clockText) {
  const given = [];
  if (command.at_step) given.push(fill(gettext("at step {x}"), { x: command.at_step }));
  if (command.at_epoch) given.push(fill(gettext("at the end of epoch {x}"), { x: command.at_epoch }));
  if (Number.isInteger(command.at_roll_backs))
    given.push(fill(gettext("after {x} rollbacks"), { x: command.at_roll_backs }));
  // What held is no news.
  if (command.state === "applied") return given;
  if (command.expected_state)
    given.push(fill(gettext("only while {state}"), { state: stateText(command.expected_state) }));
  if (command.expected_value !== null && command.expected_value !== undefined)
    given.push(fill(gettext("only if it is still {value}"), { value: exactValue(command.expected_value) }));
  if (command.expires_at && UNSETTLED.has(command.state))
    given.push(fill(gettext("until {time}"), { time: clockText(command.expires_at) }));
  return given;
}

/** Return whether a command may still be cancelled: it is not delivered, or waits for its step or epoch. */
export function canBeCancelled(command) {
  if (command.command === "cancel") return false;
  return command.state === "sent" || Boolean(command.isBusy) || isScheduled(command);
}

/** Return whether the training is holding a command until its step or epoch. */
export function isScheduled(command) {
  return command.state === "delivered" && Boolean(command.at_step || command.at_epoch);
}
