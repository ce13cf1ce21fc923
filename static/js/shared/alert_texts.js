// What an alert of each detector is called, and what it means, in the reader's language.

import { number } from "./format.js";
import { fill, gettext } from "./i18n.js";

/** Return {title, text} of an alert; what the training's own code says stays as it is. */
export function alertTexts({ detector, title, text, value }) {
  const known = {
    "non-finite": [gettext("Not finite"), gettext("A value is NaN or infinite.")],
    spike: [gettext("Spike"), gettext("The loss jumped far above what was usual.")],
    divergence: [gettext("Divergence"), gettext("It gets worse instead of better.")],
    plateau: [gettext("Plateau"), gettext("It has not improved for long.")],
    overfitting: [gettext("Overfitting"), gettext("The validation loss rises while the training loss falls.")],
    throughput: [gettext("Slower"), gettext("Speed fell below half of what was usual.")],
    stall: [gettext("Stalled"), gettext("No step for far longer than usual.")],
    "rank-lag": [gettext("A rank lags"), gettext("Steps of this rank take longer than those of the others.")],
    "data-bound": [gettext("Waits for data"), gettext("Most of the time goes into waiting for data.")],
    "gpu-idle": [gettext("GPU idle"), gettext("The GPU hardly works while the training runs.")],
    "gpu-hot": [gettext("GPU hot"), gettext("The GPU is close to where it slows itself down.")],
    "gpu-throttled": [gettext("GPU throttled"), gettext("The GPU slows down because of heat or power.")],
    "gpu-memory": [gettext("GPU memory nearly full"), gettext("Little is left of the memory of the GPU.")],
    // What is wrong with the run as a whole: its text says what happened.
    crash: [gettext("Crashed"), text],
    restart: [gettext("Started again"), text],
    lost: [gettext("Lost"), text],
    disk: [gettext("Disk nearly full"), typeof value === "number" ? fill(gettext("{free} GiB are free."), { free: number(value) }) : text],
    threshold: [gettext("Beyond its limit"), gettext("The value is beyond the limit that was set.")],
  }[detector];
  return known ? { title: known[0], text: known[1] } : { title, text };
}

/** Return what the alert's rule asked of the run, or why it did not; "" if it has no action. */
export function actionText({ action, action_state: state, action_text: text }) {
  const known = {
    pause: gettext("pause"),
    stop: gettext("stop"),
    save_checkpoint: gettext("save a checkpoint"),
    scale_knob: gettext("scale a knob"),
  };
  const reasons = {
    "Its rule was changed or deleted.": gettext("Its rule was changed or deleted."),
    "Its attempt had ended.": gettext("Its attempt had ended."),
    "The rule has acted in this attempt before.": gettext("The rule has acted in this attempt before."),
    "The rule has acted as often as it may in an hour.": gettext("The rule has acted as often as it may in an hour."),
    "The training has no such knob.": gettext("The training has no such knob."),
    "The value would be smaller than the rule allows.": gettext("The value would be smaller than the rule allows."),
  };
  if (!action) return "";
  const name = known[action] ?? action;
  if (state === "held_back") return fill(gettext("The rule did not act ({action}): {reason}"), { action: name, reason: reasons[text] ?? text });
  const what = text ? `${name}, ${text}` : name;
  if (state === "dry_run") return fill(gettext("Dry run, the rule would have asked: {action}"), { action: what });
  if (state === "asked") return fill(gettext("The rule asked: {action}"), { action: what });
  return fill(gettext("The rule asks at once: {action}"), { action: what });
}
