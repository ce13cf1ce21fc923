// What stands below a knob: what it is for, how a change goes, and what became of the last one.

import { changeText, UNSETTLED } from "./command_words.js";
import { element } from "./dom.js";
import { rangeText } from "./knob_scale.js";
import { knobHelp } from "./knob_texts.js";
import { placeText, stagesOf } from "./stages.js";
import { fill, gettext } from "./text.js";

/** Return the nodes of the note on `last`, the newest command for this knob, null where there is none. */
export function noteOn(last, knob, group) {
  if (!last) return [group ? "" : aboutText(knob)];
  if (last.state === "applied") return [appliedText(last)];
  if (UNSETTLED.has(last.state)) return [stagesOf(last), element("span", { text: placeText(last) })];
  const text = last.state === "expired" ? gettext("Not done: {reason}") : gettext("Refused: {reason}");
  return [fill(text, { reason: last.outcome })];
}

function aboutText(knob) {
  return [knobHelp(knob.help), rangeText(knob).replaceAll(" ", "\u00a0")].filter(Boolean).join(" · ");
}

function appliedText(command) {
  const hasStep = command.step !== null && command.step !== undefined;
  const step = hasStep ? fill(gettext("at step {x}"), { x: command.step }) : "";
  return [changeText(command), step, command.author].filter(Boolean).join(" · ");
}
