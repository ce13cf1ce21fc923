// The page's data for series that come into sight and leave it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { batches } from "../../static/js/run/sight.js";
import { applyEvent, emptyState } from "../../static/js/state/run_state.js";
import { lineOf } from "../../static/js/state/series.js";
import { fill, look, waitingSeries } from "../../static/js/state/sight.js";

const AT = "2026-01-01T00:00:00Z";

function metrics(seq, values, more = {}) {
  const steps = more.steps ?? [seq];
  const columns = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, [value].flat()]));
  const { nonfinite = {}, first_seq, ...own } = more;
  const block = { steps, times: steps, values: columns, nonfinite, ...own };
  return { kind: "metrics", seq, first_seq, at: AT, attempt: 1, step: seq, last_point_at: AT, blocks: [block] };
}

const newest = (seq, values) => ({ ...metrics(seq, values), kind: "newest" });
const chart = (...steps) => ({
  axis: "step", raw: true, steps, times: steps, values: steps, nonfinite: [],
});
const points = (seq, name, ...steps) => ({ seq, series: { [name]: { axis: "step", attempts: { 1: chart(...steps) } } } });
const steps = (state, name) => lineOf(state.series.get(name)).xs;

function begun() {
  const state = emptyState();
  applyEvent(state, metrics(1, { a: 1, b: 1 }));
  look(state, new Set(["a"]));
  applyEvent(state, { kind: "sight", seq: 1 });
  applyEvent(state, metrics(2, { a: 2 }));
  applyEvent(state, newest(2, { b: 2, c: 7 }));
  return state;
}

test("a series out of sight keeps its points and shows the newest value", () => {
  const state = begun();
  assert.deepEqual([steps(state, "a"), steps(state, "b")], [[1, 2], [1]]);
  assert.equal(state.latest.b.value, 2);
  assert.equal(state.latest.c.value, 7, "a series that is new while nobody looks is known");
  assert.deepEqual(waitingSeries(state), []);
});

test("a series that comes into sight waits for its past and loses no point", () => {
  const state = begun();
  look(state, new Set(["b"]));
  assert.deepEqual(waitingSeries(state), [], "before the answer nobody knows from which event on it comes");
  applyEvent(state, { kind: "sight", seq: 2 });
  assert.deepEqual(waitingSeries(state), ["b"]);
  for (const seq of [3, 4, 5]) applyEvent(state, metrics(seq, { b: seq }));
  assert.deepEqual(steps(state, "b"), [1], "the chart shows what it has");
  fill(state, points(1, "b", 1), ["b"]);
  assert.deepEqual(waitingSeries(state), ["b"], "a past that ends before is of no use");
  fill(state, points(4, "b", 1, 2, 3, 4), ["b"]);
  assert.deepEqual(steps(state, "b"), [1, 2, 3, 4, 5]);
  applyEvent(state, metrics(6, { b: 6 }));
  assert.deepEqual(steps(state, "b"), [1, 2, 3, 4, 5, 6]);
  assert.equal(state.latest.b.value, 6);
});

test("the past may be newer than what has come over the socket", () => {
  const state = begun();
  look(state, new Set(["b"]));
  applyEvent(state, { kind: "sight", seq: 2 });
  fill(state, points(5, "b", 1, 2, 3, 4, 5), ["b"]);
  applyEvent(state, metrics(3, { b: 3 }));
  // A merged event whose first point is part of the past; the page must see the values that are not finite.
  applyEvent(state, metrics(7, { b: [4, null, null, 7] }, {
    steps: [4, 5, 6, 7], seqs: [4, 5, 6, 7], first_seq: 4, nonfinite: { b: [[1, "inf"], [2, "nan"]] },
  }));
  const line = lineOf(state.series.get("b"));
  assert.deepEqual(line.xs, [1, 2, 3, 4, 5, 6, 7]);
  assert.deepEqual(line.odd.map(({ x, name }) => [x, name]), [[6, "nan"]]);
  assert.equal(state.latest.b.value, 7);
});

test("what was out of sight while its past was read is read again", () => {
  const state = begun();
  look(state, new Set(["b"]));
  applyEvent(state, { kind: "sight", seq: 2 });
  applyEvent(state, metrics(3, { b: 3 }));
  look(state, new Set(["a"]));
  look(state, new Set(["b"]));
  applyEvent(state, { kind: "sight", seq: 3 });
  assert.deepEqual(waitingSeries(state), [], "the answer was to what was asked before");
  applyEvent(state, metrics(4, {}));
  applyEvent(state, { kind: "sight", seq: 4 });
  applyEvent(state, metrics(5, { b: 5 }));
  fill(state, points(3, "b", 1, 2, 3), ["b"]);
  assert.deepEqual(waitingSeries(state), ["b"]);
  fill(state, points(4, "b", 1, 2, 3, 4), ["b"]);
  assert.deepEqual(steps(state, "b"), [1, 2, 3, 4, 5]);
});

test("a greeting ends what was asked before, and a history makes all whole", () => {
  const state = begun();
  look(state, new Set(["b"]));
  const run = { state: "running", commands: [], knobs: [] };
  applyEvent(state, { kind: "hello", seq: 2, replay: true, run, latest: {}, viewer: {}, life: "alive", link: "live" });
  look(state, new Set(["b"]));
  applyEvent(state, { kind: "sight", seq: 2 });
  assert.deepEqual(waitingSeries(state), ["b"]);
  const lists = { epochs: [], console: [], events: [], commands: [], attempts: [], checkpoints: [] };
  applyEvent(state, { kind: "history", ...points(3, "b", 1, 2, 3), ...lists });
  fill(state, points(2, "b", 1, 2), ["b"]);
  applyEvent(state, metrics(4, { b: 4, d: 4 }));
  assert.deepEqual([steps(state, "b"), steps(state, "d")], [[1, 2, 3, 4], [4]]);
});

test("a sample of the machine waits as points do", () => {
  const state = emptyState();
  const sample = (seq) => ({ kind: "system", seq, at: AT, attempt: 1, step: seq, time: seq, values: { "host/cpu": seq } });
  applyEvent(state, sample(1));
  look(state, new Set());
  applyEvent(state, sample(2));
  look(state, new Set(["host/cpu"]));
  applyEvent(state, { kind: "sight", seq: 2 });
  assert.deepEqual(waitingSeries(state), [], "two were asked");
  applyEvent(state, { kind: "sight", seq: 2 });
  applyEvent(state, sample(3));
  const told = { axis: "time", attempts: { 1: { ...chart(1, 2), axis: "time" } } };
  fill(state, { seq: 2, series: { "host/cpu": told } }, ["host/cpu"]);
  assert.deepEqual(lineOf(state.series.get("host/cpu")).times, [1, 2, 3]);
});

test("names are asked for in addresses that are not too long", () => {
  assert.deepEqual(batches([]), []);
  assert.deepEqual(batches(Array(130).fill("a")).map(({ length }) => length), [64, 64, 2]);
  const long = Array.from({ length: 40 }, (_, index) => `${index}${"字".repeat(50)}`);
  const lists = batches(long);
  assert.deepEqual(lists.flat(), long);
  for (const list of lists) assert.ok(new URLSearchParams(list.map((name) => ["name", name])).toString().length <= 4000);
});
