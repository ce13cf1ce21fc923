// The position of a knob's value on its slider, and the parsing of typed values. Pure.
//
// `knob` has the fields of a declared knob: name, input, step, minimum, maximum, scale.

import { exactValue } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";

// More precise than a hand on a screen.
const FINEST = 1000;
// The range of a slider if the knob has no limit: from the value divided by this to the value times this.
const OPEN_REACH = 10;
const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -1, PageUp: 1 };
// Larger whole numbers are not exact.
const LARGEST_WHOLE = 2 ** 53;
// The form of a typed number; steersman/kinds.py uses the same.
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** Return whether the knob takes numbers. */
export function isNumeric(knob) {
  return knob.input === "number";
}

/** Return the range {low, high} of the slider: the knob's own limits, or a range around `value` if it has none. */
export function limitsOf(knob, value) {
  const size = Math.abs(value) || 1;
  const isLog = knob.scale === "log";
  const low = knob.minimum ?? (value > 0 ? (isLog ? value / OPEN_REACH : 0) : value - OPEN_REACH * size);
  const high = knob.maximum ?? Math.max(low, value > 0 ? value * OPEN_REACH : isLog ? low * OPEN_REACH ** 2 : size);
  return { low, high: high > low ? high : low + 1 };
}

/** Return the last position of a slider that begins at 0: one for each whole number if these are few. */
export function placesOf(knob, { low, high }) {
  const isCounted = knob.step === 1 && knob.scale !== "log" && high - low <= FINEST;
  return isCounted ? Math.round(high - low) : FINEST;
}

/** Return the position of a value on the slider. */
export function positionOf(knob, limits, value) {
  const { low, high } = limits;
  const share = knob.scale === "log" ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  return Math.round(placesOf(knob, limits) * Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0)));
}

/** Return the value at a position: as round as the slider's precision, and exactly the limits at both ends. */
export function valueAt(knob, limits, position) {
  const { low, high } = limits;
  const last = placesOf(knob, limits);
  if (position <= 0) return low;
  if (position >= last) return high;
  const share = position / last;
  const isLog = knob.scale === "log";
  const raw = isLog ? low * (high / low) ** share : low + (high - low) * share;
  const clean = isLog ? Number(raw.toPrecision(3)) : rounded(raw, (high - low) / last);
  const value = knob.step === 1 ? Math.round(clean) : clean;
  return Math.min(high, Math.max(low, value));
}

/**
 * Return how many positions an arrow key moves the slider: to the next whole number if these are few, else a hundredth.
 */
export function keyStep(knob, limits) {
  const places = placesOf(knob, limits);
  return places < FINEST ? 1 : places / 100;
}

/**
 * Return the value after a key moves the slider from `value`, null if the key does not move it. Arrows move it by
 * `keyStep`, with Shift by a tenth of that, Page keys by a tenth of the slider; each of them at least to another value.
 */
export function valueAfterKey(knob, limits, value, { key, shiftKey }) {
  const way = KEYS[key];
  if (!way) return null;
  const last = placesOf(knob, limits);
  const step = key.startsWith("Page") ? last / 10 : keyStep(knob, limits) / (shiftKey ? 10 : 1);
  let place = positionOf(knob, limits, value);
  let moved = value;
  do {
    place += way * Math.max(1, Math.round(step));
    moved = valueAt(knob, limits, place);
  } while (way * (moved - value) <= 0 && place > 0 && place < last);
  return moved;
}

function rounded(value, grain) {
  const places = Math.min(12, Math.max(0, Math.ceil(-Math.log10(grain))));
  return Number(value.toFixed(places));
}

/** Return {value} of a typed text, or {problem}: a sentence with the valid values. */
export function typedValue(knob, text) {
  const typed = text.trim();
  return NUMBER.test(typed) ? checked(knob, Number(typed)) : { problem: problemText(knob, `'${text}'`) };
}

/** Return {value} of a number, or {problem} if the knob does not accept it. */
export function checked(knob, value) {
  const isWhole = knob.step !== 1 || Number.isInteger(value);
  const isBelow = has(knob.minimum) && value < knob.minimum;
  const isAbove = has(knob.maximum) && value > knob.maximum;
  if (!Number.isFinite(value) || !isWhole || isBelow || isAbove) return { problem: problemText(knob, String(value)) };
  if (knob.step !== 1 || Math.abs(value) <= LARGEST_WHOLE) return { value };
  const ends = { minimum: knob.minimum ?? -LARGEST_WHOLE, maximum: knob.maximum ?? LARGEST_WHOLE };
  return { problem: problemText({ ...knob, ...ends }, String(value)) };
}

/** Return the sentence with which server and training also refuse a value. */
function problemText(knob, value) {
  return fill(gettext("{name} takes {allowed}, not {value}."), { name: knob.name, allowed: allowedText(knob), value });
}

function allowedText({ step, minimum, maximum }) {
  const ends = { minimum, maximum };
  const isWhole = step === 1;
  if (has(minimum) && has(maximum))
    return isWhole
      ? fill(gettext("a whole number from {minimum} to {maximum}"), ends)
      : fill(gettext("a number from {minimum} to {maximum}"), ends);
  if (has(minimum))
    return isWhole
      ? fill(gettext("a whole number of at least {minimum}"), ends)
      : fill(gettext("a number of at least {minimum}"), ends);
  if (has(maximum))
    return isWhole
      ? fill(gettext("a whole number of at most {maximum}"), ends)
      : fill(gettext("a number of at most {maximum}"), ends);
  return isWhole ? gettext("a whole number") : gettext("a finite number");
}

function has(limit) {
  return limit !== null && limit !== undefined;
}

/** Return the limits as text, empty if there are none. */
export function rangeText({ minimum, maximum }) {
  if (has(minimum) && has(maximum)) return `${exactValue(minimum)} … ${exactValue(maximum)}`;
  if (has(minimum)) return fill(gettext("at least {low}"), { low: exactValue(minimum) });
  return has(maximum) ? fill(gettext("at most {high}"), { high: exactValue(maximum) }) : "";
}

/** Return `factor` times a value, as a whole number if the knob needs one, or null if the result is invalid. */
export function scaled(knob, value, factor) {
  const product = knob.step === 1 ? Math.round(value * factor) : value * factor;
  return "value" in checked(knob, product) && product !== value ? product : null;
}
