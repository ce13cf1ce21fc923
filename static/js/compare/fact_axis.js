// An axis for parameters and metrics: numbers by size, texts side by side. Pure.

import { number } from "../shared/format.js";

const TICKS = 5;

/**
 * Return {place(value), ticks, isLog}: `place` maps a value to 0 … 1, or to null if it is not on the axis; `ticks` are
 * [{at, text}]. If one value is a text, all are treated as texts. A log axis needs numbers above zero.
 */
export function factAxis(values, wantsLog = false) {
  const known = values.filter((value) => value !== null);
  if (known.some((value) => typeof value === "string")) return textAxis(known);
  const isLog = wantsLog && known.length > 0 && known.every((value) => value > 0);
  const scale = isLog ? Math.log10 : (value) => value;
  const [low, high] = [Math.min(...known), Math.max(...known)];
  if (!known.length) return { place: () => null, ticks: [], isLog };
  if (low === high) return { place: (value) => (value === null ? null : 0.5), ticks: [{ at: 0.5, text: number(low) }], isLog };
  const place = (value) => (value === null ? null : (scale(value) - scale(low)) / (scale(high) - scale(low)));
  const ticks = (isLog ? decades(low, high) : even(low, high)).map((value) => ({ at: place(value), text: number(value) }));
  return { place, ticks, isLog };
}

function textAxis(known) {
  const texts = [...new Set(known.map(String))].sort();
  const at = (index) => (index + 0.5) / texts.length;
  return {
    place: (value) => (value === null ? null : at(texts.indexOf(String(value)))),
    ticks: texts.map((text, index) => ({ at: at(index), text })),
    isLog: false,
  };
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
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) ticks.push(10 ** power);
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
