// The series that the page shows. The portal sends only their points, and the newest ones of the others.
//
// A series out of sight is hollow: it lacks the points that were logged meanwhile, and none is added. When it comes into
// sight, the portal names an event after which its points are sent. They wait until the points of the history, as of
// that event or a later one, have replaced the current ones. Uses neither DOM nor clock.

import { pointsAfter } from "./blocks.js";
import { addPoints, bucketsEach, seriesFromCharts } from "./series.js";

/** Record that the page requests the points of the series in `names`, a Set, after the event that the answer names. */
export function look(state, names) {
  state.sight = names;
  state.looks += 1;
  for (const [name, series] of state.series) {
    if (names.has(name)) continue;
    series.hollow = true;
    series.waiting = null;
  }
}

/** Apply the answer to the last request: after event `seq`, the series in sight are sent in full. */
export function sightTaken(state, { seq }) {
  state.looks = Math.max(0, state.looks - 1);
  if (state.looks || !state.sight) return;
  for (const name of state.sight) {
    const series = state.series.get(name);
    if (series?.hollow && !series.waiting) series.waiting = { after: seq, entries: [] };
  }
}

/** Return the names of series that wait for their earlier points. */
export function waitingSeries(state) {
  return [...state.series].filter(([, series]) => series.waiting).map(([name]) => name);
}

/** Replace the series `names` by the portal's answer, {seq, series: {name: charts}}. */
export function fill(state, { seq, series: told }, names) {
  const most = bucketsEach(state.series.size);
  for (const name of names) {
    const series = state.series.get(name);
    const { waiting } = series ?? {};
    // It may have been out of sight meanwhile, and then later points are missing too.
    if (!waiting || seq < waiting.after || !Object.hasOwn(told, name)) continue;
    const { axis, parts } = seriesFromCharts(name, told[name]);
    Object.assign(series, { axis, parts, held: seq, hollow: false, waiting: null, version: series.version + 1 });
    for (const entry of waiting.entries) addColumn(series, entry, most);
  }
  state.versions.series += 1;
}

/** Add the column of a series in a block of an event, {seq, attempt, block, name}, or let it wait, or ignore it. */
export function takeColumn(series, entry, most) {
  if (series.hollow) series.waiting?.entries.push(entry);
  else addColumn(series, entry, most);
}

function addColumn(series, { seq, attempt, block, name }, most) {
  const [own] = series.held ? columnAfter(block, name, seq, series.held) : [block];
  if (!own) return;
  const places = nonfiniteOf(own, name);
  const odd = places.length ? new Map(places) : null;
  const xs = series.axis === "time" ? own.times : own.steps;
  addPoints(series, attempt, xs, own.times, own.values[name], odd, most, lapOf(block, name));
}

/** Return a column without the points of events up to `held`, as a list of one block or none. */
function columnAfter(block, name, seq, held) {
  if (!block.seqs) return seq > held ? [block] : [];
  const own = { ...block, values: { [name]: block.values[name] }, nonfinite: { [name]: nonfiniteOf(block, name) } };
  return pointsAfter([own], held);
}

/** Return how often the step of a series had gone back in its attempt before the points of a block. */
function lapOf({ laps }, name) {
  return laps && Object.hasOwn(laps, name) ? laps[name] : 0;
}

/**
 * Return the indices of a block's column that are not finite. A series may be named like a property of every object,
 * such as constructor.
 */
export function nonfiniteOf({ nonfinite }, name) {
  return nonfinite && Object.hasOwn(nonfinite, name) ? nonfinite[name] : [];
}
