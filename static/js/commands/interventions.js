// The commands that are marked on the charts, with their symbols and positions. Pure.

import { alertTexts } from "../shared/alert_texts.js";
import { fill, gettext, stateText } from "../shared/i18n.js";
import { commandText } from "./text.js";

// Symbols in a square of 24: shapes instead of colours distinguish the kinds.
export const ICON_PATHS = {
  set_knob: "M12 3.5 20.5 12 12 20.5 3.5 12z",
  pause: "M6 5h4.5v14H6zM13.5 5H18v14h-4.5z",
  resume: "M7 4.5v15L19.5 12z",
  stop: "M5.5 5.5h13v13h-13z",
  save_checkpoint: "M9.5 4h5v8H19l-7 8-7-8h4.5z",
  evaluate: "m3.5 12.5 2.6-2.6 4 4 8-8.4 2.5 2.5L10.1 19z",
  note: "M4 4.5h16v11h-8.5L7 20v-4.5H4z",
  alert: "M12 3 22.5 20.5h-21z",
  linked_step: "M12 21.5 5.8 12.8a7.6 7.6 0 1 1 12.4 0z",
  roll_back: "M20 5.5 13 12l7 6.5zM11.5 5.5l-7 6.5 7 6.5z",
  branch: "M7 3h3v6.5l7-4V3l5 4.5-5 4.5V9l-7 4v8H7z",
  extend: "M4 5.5 11 12l-7 6.5zM12.5 5.5l7 6.5-7 6.5z",
};

/** Return the applied commands that charts mark, oldest first. */
export function interventionsOf(commands) {
  return [...commands]
    .filter((command) => command.state === "applied" && isStep(command.step) && command.command in ICON_PATHS)
    .sort((left, right) => left.step - right.step || appliedAt(left) - appliedAt(right));
}

function isStep(value) {
  return value !== null && value !== undefined;
}

/** Return an alert as a mark for charts: its step, the time when it began, and its series. */
export function alertMark({ attempt, series, step, began_at: began, detector, title, state }) {
  return { command: "alert", attempt, series, step, applied_at: began, detector, title, state };
}

/** Return the step in the address of the page, `?step=7`, as a mark for charts; null if there is none. */
export function linkedMark(query) {
  const named = new URLSearchParams(query).get("step") ?? "";
  return /^\d{1,15}$/.test(named) ? { command: "linked_step", step: Number(named) } : null;
}

function alertWords(alert) {
  return fill(gettext("Alert: {title} ({state})"), { title: alertTexts(alert).title, state: stateText(alert.state) });
}

/** Return when a command took effect, in seconds since 1970. */
export function appliedAt(command) {
  return Date.parse(command.applied_at ?? command.sent_at) / 1000;
}

/**
 * Return the steps at which attempts began, [{number, step}], from their rows: a recipe that was not resumed began at
 * step 0. People's own scripts resume in their own way, so their steps are unknown.
 */
export function attemptStarts(attempts, isScript) {
  return attempts
    .filter((attempt) => !isScript || isStep(attempt.resumed_from_step))
    .map((attempt) => ({ number: attempt.number, step: attempt.resumed_from_step ?? 0 }));
}

/** Return whether a later attempt began before the command's step, so that its effect is no longer in the curve. */
export function isReplaced(command, begun) {
  if (!isStep(command.attempt) || command.command === "note") return false;
  return begun.some(({ number, step }) => number > command.attempt && step < Math.max(1, command.step));
}

/** Return groups of marks that are closer than `room` pixels: [{x, marks}], in order; x is the middle. */
export function clusterMarks(marks, room) {
  const groups = [];
  for (const mark of marks) {
    const last = groups.at(-1);
    if (last && mark.x - last.end < room) {
      last.marks.push(mark);
      last.end = mark.x;
    } else groups.push({ begin: mark.x, end: mark.x, marks: [mark] });
  }
  return groups.map(({ begin, end, marks: own }) => ({ x: (begin + end) / 2, marks: own }));
}

/** Return the description of a mark: the action, its step and its author. */
export function markText(command) {
  const where = fill(gettext("step {x}"), { x: command.step });
  const words = { alert: alertWords, linked_step: () => gettext("Step of the link") }[command.command] ?? commandText;
  const what = words(command);
  return [what, where, command.author].filter(Boolean).join(" · ");
}
