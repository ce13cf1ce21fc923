// An axis for parameters and metrics: numbers by size, texts side by side; and ranges on such axes. Pure.

import { number } from "../shared/format.js";

const TICKS = 5;
// The parts of an axis by which an arrow key moves the end of a range.
const PARTS = 20;
const DIGITS = 6;

/**
 * Return {place(value), ticks, isLog, stops, valueAt(at)}: `place` maps a value to 0 … 1, or to null if it is not on the
 * axis; `ticks` are [{at, text}]. If one value is a text, all are treated as texts. A log axis needs numbers above zero.
 * `stops` are the only values of an axis of texts or of one number, [{at, value}]; null if it has all between its ends.
 */
export function factAxis(values, wantsLog = false) {
  const known = values.filter((value) => value !== null);
  if (known.some((value) => typeof value === "string")) return textAxis(known);
  const isLog = wantsLog && known.length > 0 && known.every((value) => value > 0);
  const scale = isLog ? Math.log10 : (value) => value;
  const [low, high] = [Math.min(...known), Math.max(...known)];
  if (!known.length) return { place: () => null, ticks: [], isLog, stops: [] };
  if (low === high) {
    const ticks = [{ at: 0.5, text: number(low) }];
    return { place: (value) => (value === null ? null : 0.5), ticks, isLog, stops: [{ at: 0.5, value: low }] };
  }
  const place = (value) => (value === null ? null : (scale(value) - scale(low)) / (scale(high) - scale(low)));
  const ticks = (isLog ? decades(low, high) : even(low, high)).map((value) => ({ at: place(value), text: number(value) }));
  const back = isLog ? (value) => 10 ** value : (value) => value;
  const valueAt = (at) => Number(back(scale(low) + at * (scale(high) - scale(low))).toPrecision(DIGITS));
  return { place, ticks, isLog, stops: null, valueAt };
}

function textAxis(known) {
  const texts = [...new Set(known.map(String))].sort();
  const at = (index) => (index + 0.5) / texts.length;
  return {
    place: (value) => (value === null ? null : at(texts.indexOf(String(value)))),
    ticks: texts.map((text, index) => ({ at: at(index), text })),
    isLog: false,
    stops: texts.map((value, index) => ({ at: at(index), value })),
  };
}

/**
 * Return the range [low, high] of the values of an axis from one place to another, which are 0 … 1; an end of the axis
 * is null, so that a value beyond it which comes later is in the range. The whole axis is null; undefined if there is
 * no value in between.
 */
export function rangeBetween(axis, from, to) {
  let ends = [from <= 0 ? null : axis.valueAt?.(from), to >= 1 ? null : axis.valueAt?.(to)];
  if (axis.stops) {
    const inside = axis.stops.filter(({ at }) => at >= from && at <= to);
    if (!inside.length) return undefined;
    ends = [
      inside[0] === axis.stops[0] ? null : inside[0].value,
      inside.at(-1) === axis.stops.at(-1) ? null : inside.at(-1).value,
    ];
  }
  return ends.every((end) => end === null) ? null : ends;
}

/** Return the places [from, to] of a range on an axis, within 0 … 1; null is the whole axis. */
export function endsOf(axis, range) {
  const [low, high] = range ?? [null, null];
  if (!axis.stops) {
    // An address may have an end that has no place on this axis.
    const placed = (value, otherwise) => (value !== null && Number.isFinite(axis.place(value)) ? axis.place(value) : otherwise);
    return [placed(low, 0), placed(high, 1)].map((at) => Math.min(1, Math.max(0, at)));
  }
  const inside = axis.stops.filter(({ value }) => isInRange(value, range));
  if (!range || !inside.length) return range ? [0, 0] : [0, 1];
  const half = 0.5 / axis.stops.length;
  return [inside[0].at - half, inside.at(-1).at + half];
}

/** Return the range after its upper end, or its lower one, was moved up or down (`by` is 1 or -1) with a key. */
export function movedRange(axis, range, isUpper, by) {
  const [from, to] = endsOf(axis, range);
  const parts = axis.stops?.length || PARTS;
  const moved = (at) => (Math.round(at * parts) + by) / parts;
  // There is always one text in the range.
  const least = axis.stops ? 1 / parts : 0;
  const ends = isUpper ? [from, Math.max(from + least, Math.min(1, moved(to)))] : [Math.min(to - least, Math.max(0, moved(from))), to];
  const next = rangeBetween(axis, ...ends);
  if (next === undefined) return range ?? null;
  if (!next || axis.stops || !range) return next;
  if (range.some((end) => typeof end === "string")) return next;
  // The other end stays as it was, also if it is beyond the axis.
  const whole = isUpper ? [range[0], next[1]] : [next[0], range[1]];
  return whole.every((end) => end === null) ? null : whole;
}

/** Return whether a value is in a range [low, high], in which null is no bound. */
export function isInRange(value, range) {
  if (!range) return true;
  if (value === null) return false;
  const [low, high] = range;
  const isText = [low, high].some((end) => typeof end === "string");
  const own = isText ? String(value) : value;
  return (low === null || own >= low) && (high === null || own <= high);
}

/** Return the indices of the runs with a value in each range of `ranges`, [low, high] by key; null without a range. */
export function insideAll(facts, ranges) {
  const bound = facts.filter(({ key }) => ranges.has(key));
  if (!bound.length) return null;
  const places = [...bound[0].values.keys()];
  return new Set(places.filter((place) => bound.every(({ key, values }) => isInRange(values[place], ranges.get(key)))));
}

function even(low, high) {
  const rough = (high - low) / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((digit) => digit * power >= rough) * power;
  const ticks = [];
  for (let tick = Math.ceil(low / step); tick * step <= high; tick += 1) ticks.push(Number((tick * step).toPrecision(12)));
  return ticks;
}

function decades(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) ticks.push(Number(`1e${power}`));
  const inside = ticks.filter((tick) => tick >= low && tick <= high);
  return inside.length > 1 ? inside : [low, high];
}

/** Return Spearman's rank correlation of pairs of numbers, null for fewer than three pairs or a constant. */
export function rankCorrelation(pairs) {
  const numbers = pairs.filter((pair) => pair.every((value) => typeof value === "number"));
  if (numbers.length < 3) return null;
  const [left, right] = [0, 1].map((side) => ranks(numbers.map((pair) => pair[side])));
  const mean = (numbers.length - 1) / 2;
  const sum = (one, other) => one.reduce((total, rank, index) => total + (rank - mean) * (other[index] - mean), 0);
  const spread = Math.sqrt(sum(left, left) * sum(right, right));
  return spread ? sum(left, right) / spread : null;
}

/** Return the ranks of values; equal values share the mean of their ranks. */
function ranks(values) {
  const sorted = [...values].sort((one, other) => one - other);
  return values.map((value) => (sorted.indexOf(value) + sorted.lastIndexOf(value)) / 2);
}
