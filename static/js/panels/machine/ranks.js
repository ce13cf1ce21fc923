// What the newest samples say of each rank: one row each. All strips of a measure have one scale, so that the rank that
// is slow or idle differs from the others at a glance.

import { measure } from "../../shared/format.js";
import { fill, gettext } from "../../shared/i18n.js";

const MEASURES = [
  { title: gettext("Step without waiting"), part: "step_ms" },
  { title: gettext("CPU"), part: "cpu" },
  { title: gettext("Memory"), part: "rss_mib" },
];
// The rule of the alert rank-lag, on samples instead of steps.
const SLOW_RATIO = 1.5;
const SLOW_SAMPLES = 20;
const FEWEST_SAMPLES = 5;

/**
 * Return the rows [{id, title, cells, note}] of `run.ranks` ranks, those with samples. `latest` has the newest points by
 * series, `recent(name)` returns the newest values of a series. `environment` is that of the newest attempt.
 */
export function rankRows(latest, recent, run, environment = {}) {
  const count = run?.ranks ?? 1;
  if (count < 2) return [];
  const ranks = Array.from({ length: count }, (_, rank) => rank);
  const tops = MEASURES.map(({ part }) => Math.max(0, ...ranks.map((rank) => topOf(nameOf(rank, part), latest, recent))));
  const times = ranks.map((rank) => usualOf(recent(nameOf(rank, "step_ms"))));
  return ranks
    .map((rank) => ({
      id: `rank/${rank}`,
      rank,
      title: [fill(gettext("Rank {rank}"), { rank }), deviceOf(rank, environment)].filter(Boolean).join(" · "),
      cells: MEASURES.map(({ title, part }, index) => cellOf(nameOf(rank, part), title, latest, tops[index])).filter(Boolean),
      note: slowText(rank, times),
    }))
    .filter(({ cells }) => cells.length);
}

function nameOf(rank, part) {
  return `host/rank/${rank}/${part}`;
}

function topOf(name, latest, recent) {
  let top = latest[name]?.value ?? 0;
  for (const value of recent(name)) if (value > top) top = value;
  return top;
}

function cellOf(name, title, latest, most) {
  const point = latest[name];
  return point ? { title, name, text: measure(name, point.value, point.nonfinite), most: most || null } : null;
}

/** Return the device that a recipe's rank reported, such as "cuda:1"; "" if it is unknown. */
function deviceOf(rank, { device, rank_devices: devices }) {
  const found = rank ? devices?.[rank] : devices && device;
  return typeof found === "string" ? found : "";
}

/** Return the sentence about a rank that takes much longer per step than the others; "" if it does not. */
export function slowText(rank, times) {
  const own = times[rank];
  const others = times.filter((time, other) => other !== rank && time !== null);
  if (own === null || !others.length) return "";
  const usual = median(others);
  if (!(usual > 0) || own < SLOW_RATIO * usual) return "";
  return fill(gettext("Slower than the other ranks: a step takes {own} without waiting, theirs {usual}."), {
    own: measure("_ms", own),
    usual: measure("_ms", usual),
  });
}

function usualOf(values) {
  const newest = values.slice(-SLOW_SAMPLES).filter((value) => value !== null);
  return newest.length < FEWEST_SAMPLES ? null : median(newest);
}

function median(values) {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
