// Group, chart and order of series, derived from their names. Pure.

import { readableName } from "../../shared/format.js";
import { fill, gettext } from "../../shared/i18n.js";
import { metricName } from "../../shared/metric_names.js";
import { naturalOrder } from "../../shared/natural_order.js";
import { deviceOf, prefixOf } from "../../state/series_colour.js";

const FIRST_GROUPS = ["train", "validation", "", "optimizer", "speed"];
// Norms of layers: hundreds of series, which people only need to find the layer where a fault began.
const LAYERS = "layers";
// The groups of built-in recipes and of the machine.
const USUAL_GROUPS = new Set([...FIRST_GROUPS, LAYERS, "gpu", "host"]);
const FIRST_SERIES = ["loss", "accuracy", "validation_loss", "validation_accuracy"];
const NUMBER = /^\d+$/;
const PART = /_(used|total)(?=_)/;
const TOTAL = /_total_/;
const OF_RANK = "host/rank/";

/** Return the measure of a machine series, without device and part: used and total memory of all GPUs share a chart. */
export function measureOf(name) {
  return name
    .split("/")
    .filter((part) => !NUMBER.test(part))
    .join("/")
    .replace(PART, "");
}

export function lineLabel(name) {
  const device = deviceOf(name);
  const part = PART.exec(name)?.[0].slice(1) ?? "";
  if (device !== null && name.startsWith(OF_RANK)) return fill(gettext("Rank {rank}"), { rank: device });
  if (device !== null) return [prefixOf(name).toUpperCase(), device, metricName(part)].filter(Boolean).join(" ");
  return part ? metricName(part) : readableName(name.slice(name.indexOf("/") + 1));
}

export function byImportance(left, right) {
  const rank = (name) => {
    const place = FIRST_SERIES.indexOf(name.slice(name.indexOf("/") + 1));
    return place < 0 ? FIRST_SERIES.length : place;
  };
  return rank(left) - rank(right) || naturalOrder(left, right);
}

/** Compare two series, so that a total comes after the used amount. */
export function totalsLast(left, right) {
  return TOTAL.test(left) - TOTAL.test(right) || naturalOrder(left, right);
}

/** Return whether a group is folded until a person opens it. */
export function isFoldedAtFirst(prefix) {
  return prefix === LAYERS;
}

/** Compare two groups: the usual ones first, then the others by name, and layers last. */
export function groupOrder(left, right) {
  const rank = (prefix) => (prefix === LAYERS ? Infinity : FIRST_GROUPS.indexOf(prefix) + 1 || FIRST_GROUPS.length + 1);
  if (left === right) return 0;
  return rank(left) - rank(right) || naturalOrder(left, right);
}

/** Return the title of a group: a usual one in the reader's language, any other as it was logged. */
export function groupTitle(prefix) {
  if (!prefix) return gettext("Metrics");
  return USUAL_GROUPS.has(prefix) ? readableName(prefix) : prefix;
}

export function groupBy(values, keyOf) {
  const groups = new Map();
  for (const value of values) {
    const key = keyOf(value);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(value);
  }
  return groups;
}

/** Return whether a series contains a total amount. */
export function isTotal(name) {
  return TOTAL.test(name);
}
