// The groups of charts, their order, and the groups that are initially open. Pure.

import { prefixOf } from "../../state/series_colour.js";
import { byImportance, groupBy, groupOrder, isTotal, measureOf, totalsLast } from "./series_names.js";

// With more charts over steps than this, a page is crowded: it opens few groups, and shows few charts of each.
const CROWDED = 40;
// Series names cannot begin like this.
export const PINNED = "/pinned";
const LOSS = /(^|[/_])loss$/;

/**
 * Return the charts of series as [{key, axis, prefix, names}]: one for each series over steps, with the series in
 * `addedTo(key)` that `isKnown(name)`, and one for each measure of the machine.
 */
export function chartsOf(series, addedTo = () => [], isKnown = (name) => series.has(name)) {
  const names = [...series.keys()];
  const over = (axis) => names.filter((name) => series.get(name).axis === axis);
  const training = over("step").sort(byImportance);
  const namesOf = (name) => [name, ...addedTo(name).filter(isKnown)];
  const machine = [...groupBy(over("time").sort(totalsLast), measureOf)];
  return [
    ...training.map((name) => ({ key: name, axis: "step", prefix: prefixOf(name), names: namesOf(name) })),
    ...machine.map(([key, own]) => ({ key, axis: "time", prefix: prefixOf(key), names: own })),
  ];
}

/** Return the charts of the machine as [{key, names}], without the totals, which only bound what is used. */
export function machineChartsOf(series) {
  const sampled = new Map([...series].filter(([, { axis }]) => axis === "time"));
  const charts = chartsOf(sampled).map(({ key, names }) => ({ key, names: names.filter((name) => !isTotal(name)) }));
  return charts.filter(({ names }) => names.length);
}

/**
 * Return the groups of `charts` as [{id, axis, prefix, charts}] in display order. Pinned charts of any axis are the
 * first group of those over steps.
 */
export function groupsOf(charts, isPinned) {
  const groups = groupBy(charts, (chart) => (isPinned(chart.key) ? `step:${PINNED}` : `${chart.axis}:${chart.prefix}`));
  const listed = [...groups].map(([id, members]) => {
    const isOfPinned = id === `step:${PINNED}`;
    const [{ axis, prefix }] = members;
    return { id, axis: isOfPinned ? "step" : axis, prefix: isOfPinned ? PINNED : prefix, charts: members };
  });
  return listed.sort((left, right) => left.axis.localeCompare(right.axis) || orderOf(left.prefix, right.prefix));
}

function orderOf(left, right) {
  return Number(right === PINNED) - Number(left === PINNED) || groupOrder(left, right);
}

/** Return whether there are too many charts over steps to open all of them. */
export function isCrowded(charts) {
  return charts.filter(({ axis }) => axis === "step").length > CROWDED;
}

/**
 * Return the ids of the groups that are open at first: those over steps, since rows show the machine. On a crowded page:
 * pinned, the first, and the first loss.
 */
export function openAtFirst(groups, crowded) {
  if (!crowded) return new Set(groups.filter(({ axis }) => axis === "step").map(({ id }) => id));
  const overSteps = groups.filter(({ axis, prefix }) => axis === "step" && prefix !== PINNED);
  const loss = overSteps.find(({ charts }) => charts.some(({ key }) => LOSS.test(key)));
  return new Set([`step:${PINNED}`, overSteps[0]?.id, loss?.id].filter(Boolean));
}
