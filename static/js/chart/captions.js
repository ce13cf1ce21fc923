// The texts about a chart: below the curve, and for people who cannot see it.

import { count, measure, number } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { oddCount } from "../state/columns.js";
import { notAboveZero } from "./scales.js";

// A text alternative has the values of this many lines, and the number of the others.
const MOST_NAMED = 12;

export const AXES = {
  step: gettext("step"),
  epoch: gettext("epoch"),
  epochs: gettext("epoch"),
  time: gettext("time"),
  relative: gettext("time since the start"),
};

/** Return the newest value of a line with its unit. */
export function latestOf(line) {
  const latest = line.latest();
  return measure(line.name, latest.value, latest.nonfinite);
}

/**
 * Return the text below the curve: how much of it is shown, and the meaning of paler lines. Empty if there is nothing
 * to explain.
 */
export function captionOf(drawn, points, log, earlier = 0, offScale = 0) {
  const sentences = [];
  if (drawn.some((one) => one.banded)) {
    const shown = drawn.reduce((sum, one) => sum + one.xs.length, 0);
    const text = gettext("{shown} of {points} points; the band spans minimum and maximum");
    sentences.push(fill(text, { shown: count(shown), points: count(points) }));
  }
  const below = log ? drawn.reduce((sum, one) => sum + notAboveZero(one.means), 0) : 0;
  if (below) sentences.push(fill(gettext("not shown on the log axis, because not above zero: {count}"), { count: count(below) }));
  if (offScale) sentences.push(fill(gettext("off the scale, marked by arrows: {count}"), { count: count(offScale) }));
  if (earlier) sentences.push(gettext("paler: other attempts, or earlier passes over the same steps"));
  return sentences.join(" · ");
}

/** Return the text about values that are not finite: the first one, and the number of others. */
export function oddText(odd, where) {
  const { x, name } = odd.reduce((first, entry) => (entry.x < first.x ? entry : first));
  const text = fill(gettext("{value} at {place}"), { value: number(null, name), place: where(x) });
  const others = oddCount(odd) - 1;
  return others ? text + fill(gettext(" and {count} more"), { count: count(others) }) : text;
}

/**
 * Return the text alternative of a chart: newest values, range, the numbers of points, of visible interventions and
 * alerts and of lines of other attempts and laps, and the chosen attempt.
 */
export function altText(title, lines, drawn, points, over, { marks = 0, earlier = 0, attempt = Infinity } = {}) {
  const newest = newestOf(lines);
  const [low, high] = spanOf(drawn);
  const parts = [newest.join(", ")];
  if (low <= high) parts.push(fill(gettext("from {low} to {high}"), { low: number(low), high: number(high) }));
  parts.push(fill(gettext("{points} points"), { points: count(points) }));
  if (marks) parts.push(fill(gettext("marks of interventions and alerts: {count}; press m to read them"), { count: marks }));
  if (attempt !== Infinity) parts.push(fill(gettext("as of the end of attempt {number}"), { number: attempt }));
  if (earlier) parts.push(fill(gettext("paler lines, of other attempts or earlier passes: {count}"), { count: count(earlier) }));
  parts.push(fill(gettext("over {axis}"), { axis: AXES[over] }));
  return `${title}: ${parts.join("; ")}`;
}

/** Return the newest values of the lines that are shown. */
function newestOf(lines) {
  if (lines.length === 1) return [latestOf(lines[0])];
  const shown = lines.filter((line) => !line.isHidden?.());
  const texts = shown.slice(0, MOST_NAMED).map((line) => `${line.label} ${latestOf(line)}`);
  const others = shown.length - texts.length;
  return others ? [...texts, fill(gettext("and {count} more lines"), { count: count(others) })] : texts;
}

function spanOf(drawn) {
  let low = Infinity;
  let high = -Infinity;
  for (const { mins, maxs } of drawn) {
    for (const value of mins) if (value !== null && value < low) low = value;
    for (const value of maxs) if (value !== null && value > high) high = value;
  }
  return [low, high];
}
