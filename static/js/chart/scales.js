// Ranges and labels of the axes of a chart. Pure.

import { clock, fixed, number } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";

// Ticks of times in seconds: the units that people use instead of powers of ten.
export const TIME_STEPS = [
  0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800,
  604_800, 2_419_200,
];

// The significant digits of a double.
const MOST_DIGITS = 17;

/** Give a single point some space on both sides. */
export function widenedRange(min, max) {
  return min === max ? [min - 0.5, max + 0.5] : [min, max];
}

// Values that differ by less differ only by rounding: some are stored with 24 bits.
const ROUNDING = 1e-6;

/** Return whether values from `min` to `max` differ only by rounding. */
export function isFlat(min, max) {
  return !(max - min > ROUNDING * Math.max(Math.abs(min), Math.abs(max)));
}

/** Leave a tenth of the range above and below; a flat line is in the middle. */
export function paddedRange(_, min, max) {
  if (min === null || max === null) return [0, 1];
  const room = !isFlat(min, max) ? (max - min) * 0.08 : Math.abs(max) * 0.1 || 1;
  return [min >= 0 && min - room < 0 ? 0 : min - room, max + room];
}

/** Do the same for a log axis, by a factor, and never down to zero. */
export function paddedLogRange(_, min, max) {
  if (min === null || max === null || min <= 0) return [0.1, 1];
  const room = !isFlat(min, max) ? (max / min) ** 0.08 : 2;
  return [min / room, max * room];
}

/** Return the labels of values on an axis, with enough digits to distinguish them. */
export function valueLabels(values) {
  const different = new Set(values).size;
  const short = values.map((value) => number(value));
  if (new Set(short).size === different) return short;
  for (let digits = 5; digits < MOST_DIGITS; digits += 1) {
    const labels = values.map((value) => (value === null ? number(value) : String(Number(value.toPrecision(digits)))));
    if (new Set(labels).size === different) return labels;
  }
  return values.map(String);
}

/** Show percentages on the whole scale, so that machines can be compared at a glance. */
export function percentRange(_, min, max) {
  return [0, Math.max(100, max ?? 0)];
}

function compact(x) {
  if (Math.abs(x) < 10_000) return String(x);
  return x % 1000 === 0 ? `${x / 1000}k` : `${fixed(x / 1000, 1)}k`;
}

/** Return seconds since the start as 0:07, 12:30 or 1:05:00; with days if there are any. */
export function elapsed(seconds) {
  const whole = Math.round(Math.abs(seconds));
  const pad = (value) => String(value).padStart(2, "0");
  const days = Math.floor(whole / 86_400);
  const hours = Math.floor((whole % 86_400) / 3600);
  const rest = `${pad(Math.floor((whole % 3600) / 60))}:${pad(whole % 60)}`;
  const short = hours ? `${hours}:${rest}` : rest.replace(/^0/, "");
  const text = days ? fill(gettext("{days} d {time}"), { days, time: `${hours}:${rest}` }) : short;
  return seconds < 0 ? `−${text}` : text;
}

/** Return the label of a value on the x axis; `step` is the distance of two labels. */
export function tickLabel(over, x, step) {
  if (over === "relative") return elapsed(x);
  if (over === "epoch") return number(x);
  if (over !== "time") return Number.isInteger(x) ? compact(x) : "";
  const text = clock(x).split(" ").at(-1);
  return step >= 60 ? text.slice(0, 5) : text;
}

/** Return the labelled values of a log axis: 1, 2 and 5 of each decade, or only powers of ten if there are many. */
export function logSplits(_, __, min, max) {
  if (!(min > 0) || !(max > min)) return [];
  const decades = Math.log10(max / min);
  if (decades < 1) return even(min, max);
  const digits = decades > 4 ? [1] : [1, 2, 5];
  const every = Math.max(1, Math.ceil(decades / 6));
  const places = [];
  for (let power = Math.floor(Math.log10(min)); power <= Math.ceil(Math.log10(max)); power += 1) {
    if (digits.length === 1 && power % every) continue;
    for (const digit of digits) places.push(digit * 10 ** power);
  }
  return places.filter((place) => place >= min && place <= max);
}

function even(min, max) {
  const rough = (max - min) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((digit) => digit * power >= rough) * power;
  const places = [];
  for (let place = Math.ceil(min / step); place * step <= max; place += 1) places.push(place * step);
  return places;
}

/** Return the values for a log axis, without those that are not above zero. */
export function aboveZero(values) {
  return values.map((value) => (value > 0 ? value : value === undefined ? undefined : null));
}

/** Return how many values a log axis cannot show. */
export function notAboveZero(values) {
  return values.reduce((sum, value) => sum + (value !== null && value !== undefined && value <= 0 ? 1 : 0), 0);
}
