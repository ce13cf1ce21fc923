// The help of the built-in recipes' knobs in the reader's language; the help of other knobs is not translated.

import { gettext } from "../shared/i18n.js";

const HELPS = new Map([
  ["step size of Adam", gettext("step size of Adam")],
  ["highest learning rate, after the warm-up", gettext("highest learning rate, after the warm-up")],
  ["weight decay of AdamW", gettext("weight decay of AdamW")],
  ["weight decay of AdamW, on matrices only", gettext("weight decay of AdamW, on matrices only")],
  ["max norm to which gradients are clipped", gettext("max norm to which gradients are clipped")],
  [
    "fraction of features left out before the last layer",
    gettext("fraction of features left out before the last layer"),
  ],
  ["fraction of features left out while training", gettext("fraction of features left out while training")],
  [
    "fraction of each label that is spread over all digits",
    gettext("fraction of each label that is spread over all digits"),
  ],
  ["shift each training digit by up to two pixels", gettext("shift each training digit by up to two pixels")],
  ["sampling temperature: higher is more random; 1: unscaled", gettext("sampling temperature: higher is more random; 1: unscaled")],
]);

/** Return the help of a knob in the reader's language. */
export function knobHelp(text) {
  return HELPS.get(text) ?? text;
}
