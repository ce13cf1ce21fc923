// The text below a knob: its purpose, the progress of a change, and the outcome of the last one.

import { stageList, stageText } from "../commands/stages.js";
import { changeText, isByGroup, UNSETTLED } from "../commands/text.js";
import { element } from "../shared/dom.js";
import { fill, gettext } from "../shared/i18n.js";
import { knobHelp } from "./help_texts.js";
import { rangeText } from "./scale.js";

/** Return the nodes of the note on `last`, the newest command for this knob, null if there is none. */
export function noteContent(last, knob, group) {
  if (!last) return [group ? "" : aboutText(knob)];
  if (last.state === "applied") return [appliedText(last)];
  if (UNSETTLED.has(last.state)) return [stageList(last), element("span", { text: stageText(last) })];
  const text = last.state === "expired" ? gettext("Not done: {reason}") : gettext("Refused: {reason}");
  const advice = isOvertaken(last, knob, group)
    ? gettext("Somebody else has changed it meanwhile: check the value, then set it again.")
    : "";
  return [[fill(text, { reason: last.outcome }), advice].filter(Boolean).join(" ")];
}

/** Return whether the change was refused because the value differs from what its author saw. */
function isOvertaken({ state, expected_value: expected }, { value }, group) {
  if (state !== "refused" || expected === null || expected === undefined || (isByGroup(value) && !group)) return false;
  return (isByGroup(value) ? value[group] : value) !== expected;
}

function aboutText(knob) {
  return [knobHelp(knob.help), rangeText(knob).replaceAll(" ", "\u00a0")].filter(Boolean).join(" · ");
}

function appliedText(command) {
  const hasStep = command.step !== null && command.step !== undefined;
  const step = hasStep ? fill(gettext("at step {x}"), { x: command.step }) : "";
  return [changeText(command), step, command.author].filter(Boolean).join(" · ");
}
