// Follows recorded runs with the page's own reducer, and compares with pages that are loaded at each cut and at the end.
//
// usage: node tests/js/follow.js stories.json
// A story is {name, cuts: [{seq, hello, history}], frames, pages}; the last cut is the end. `pages` is optional and contains
// {name, told, looks}: all messages of a page, in order, whole histories included. A page with `looks` says which series
// are in sight ({kind: "looked", series}: those that it knows) and reads their past ({kind: "points", seq, series}); of the
// others only the newest points are compared. Prints a JSON list of differences: {story, page, place, followed, loaded}.

import { readFileSync } from "node:fs";
import { applyEvent, emptyState } from "../../static/js/state/run_state.js";
import { fill, look, waitingSeries } from "../../static/js/state/sight.js";

const MOST_FOUND = 20;
// The history rounds merged points to seven digits, and adds them up in another order.
const CLOSE = 1e-6;
const ROUNDED = /\.(means|mins|maxs)\.\d+$/;

/** Load a page: its history, then the greeting of its socket. */
function load(cut, greeting = cut) {
  const state = applyEvent(emptyState(), { ...structuredClone(cut.history), kind: "history" });
  return applyEvent(state, { ...structuredClone(greeting.hello), replay: true });
}

function follow(state, frames, until = Infinity) {
  for (const frame of frames) if (frame.seq > state.seq && frame.seq <= until) applyEvent(state, structuredClone(frame));
  return state;
}

// State of one connection, state that only tells painters about changes, and state that a greeting takes from the
// history (knobs: the page shows those of the run). All other fields are compared, new fields too.
const NOT_SHOWN = ["runSeq", "seqAt", "viewer", "life", "silentS", "link", "watchers", "lacks", "greeted", "lastError", "versions", "knobs", "sight", "looks"];
const MESSAGES = new Set(["history", "hello", "resync", "pong", "sight", "newest"]);
// Actions of the page itself.
const DEEDS = {
  looked: (state, { series }) => look(state, new Set(series.filter((name) => state.series.has(name)))),
  points: (state, past) => fill(state, structuredClone(past), waitingSeries(state)),
};

/** Apply all messages of a page. `twice` lists the events that it applied more than once. */
function tell(told) {
  const state = emptyState();
  const changes = () => Object.values(state.versions).reduce((sum, version) => sum + version, 0);
  const applied = new Set();
  const twice = [];
  for (const message of told) {
    if (DEEDS[message.kind]) {
      DEEDS[message.kind](state, message);
      continue;
    }
    const [seq, before] = [state.seq, changes()];
    applyEvent(state, structuredClone(message));
    if (state.seq < seq) twice.push(`back from ${seq} to ${state.seq}`);
    const isApplied = state.seq !== seq || changes() !== before;
    if (!isApplied || MESSAGES.has(message.kind) || !("seq" in message)) continue;
    if (applied.has(message.seq)) twice.push(message.seq);
    applied.add(message.seq);
  }
  return { state, twice };
}

/** Return all state that a reader of the page can see. */
function seen(state, console, activity, sight) {
  const fields = Object.entries(state).filter(([name]) => !NOT_SHOWN.includes(name));
  return {
    ...Object.fromEntries(fields),
    series: sight
      ? sight.map((name) => [name, state.series.get(name)?.axis, [...(state.series.get(name)?.parts ?? [])]])
      : [...state.series].map(([name, { axis, parts }]) => [name, axis, [...parts]]),
    commands: [...state.commands],
    // A page that has followed a run longer holds more of these than the history contains.
    console: state.console.slice(-console),
    activity: state.activity.slice(-activity),
  };
}

/** Return the first place where two values differ, or "" if they are equal. */
function difference(left, right, place = "") {
  if (typeof left === "number" && typeof right === "number") {
    const isClose = ROUNDED.test(place) && Math.abs(left - right) <= CLOSE * Math.abs(left);
    return left === right || isClose ? "" : place;
  }
  if (left === null || right === null || typeof left !== "object" || typeof right !== "object")
    return left === right ? "" : place;
  const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
  for (const key of keys) {
    if (!(key in left) || !(key in right)) return `${place}.${key}`;
    const found = difference(left[key], right[key], `${place}.${key}`);
    if (found) return found;
  }
  return "";
}

function at(value, place) {
  for (const key of place.split(".").slice(1)) value = value?.[key];
  return value === undefined ? "(nothing)" : value;
}

const found = [];

/**
 * Compare two pages. `details` is what the page requests when an event says that it changed: environment and
 * tracebacks.
 */
function compare(story, page, followed, loaded, details, sight) {
  applyEvent(followed, { ...structuredClone(details), kind: "details" });
  const console = loaded.console.length;
  const activity = loaded.activity.length;
  const [left, right] = [seen(followed, console, activity, sight), seen(loaded, console, activity, sight)];
  const place = difference(left, right);
  if (place) found.push({ story, page, place, followed: at(left, place), loaded: at(right, place) });
}

for (const { name, cuts, frames, pages = [] } of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  const end = cuts.at(-1);
  for (const [index, cut] of cuts.entries()) {
    compare(name, `loaded at ${cut.seq}`, follow(load(cut), frames), load(end), end.history);
    // The greeting came later than the history: the page replays the events between.
    const later = cuts[Math.min(index + 2, cuts.length - 1)];
    compare(name, `loaded at ${cut.seq}, greeted at ${later.seq}`, follow(load(cut, later), frames), load(end), end.history);
  }
  // A page that followed from the first moment has the state of a fresh page at every cut.
  const steady = load(cuts[0]);
  for (const cut of cuts) compare(name, `followed to ${cut.seq}`, follow(steady, frames, cut.seq), load(cut), cut.history);
  // A page whose socket was cut at every place, so that it gets a greeting before it has followed.
  const page = load(cuts[0]);
  for (const [index, cut] of cuts.entries()) {
    if (index % 2) follow(page, frames, cut.seq);
    applyEvent(page, { ...structuredClone(cut.hello), replay: true });
  }
  compare(name, "cut at every place", follow(page, frames), load(end), end.history);
  for (const { name: page, told, looks } of pages) {
    const { state, twice } = tell(told);
    if (twice.length) found.push({ story: name, page, place: "applied twice", followed: twice, loaded: [] });
    compare(name, page, state, load(end), end.history, looks && [...state.sight]);
  }
  if (found.length >= MOST_FOUND) break;
}

process.stdout.write(JSON.stringify(found.slice(0, MOST_FOUND)));
