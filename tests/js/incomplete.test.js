// How the page handles a snapshot that omits things, events in parts, and events that never arrived.

import assert from "node:assert/strict";
import { test } from "node:test";
import { applyEvent, emptyState } from "../../static/js/state/run_state.js";
import { lineOf } from "../../static/js/state/series.js";

const RUN = { state: "running", step: 1, epoch: 0, attempt: 1, best_metric_name: "z", commands: [], knobs: [] };

function hello(state, fields, run = {}) {
  return applyEvent(state, {
    kind: "hello", seq: state.seq, replay: true, run: { ...RUN, ...run }, latest: {}, viewer: {}, life: "alive",
    link: "live", ...fields,
  });
}

const point = (seq, name, step) => ({
  kind: "metrics", seq, at: "2026-01-01T00:00:00Z", attempt: 1, step, last_point_at: "2026-01-01T00:00:00Z",
  blocks: [{ steps: [step], times: [step], values: { [name]: [step] }, nonfinite: {} }],
});

test("it merges an epoch that is told in parts, and keeps it once", () => {
  const state = emptyState();
  hello(state, {});
  const epoch = {
    kind: "epoch", at: "2026-01-01T00:00:00Z", attempt: 1, epoch: 1, step: 5, best: true, best_metric: 2, best_metric_name: "z",
  };
  applyEvent(state, { ...epoch, seq: 1, values: { a: 1, b: null }, nonfinite: { b: "nan" }, part: 0 });
  applyEvent(state, { ...epoch, seq: 2, values: { z: 2 }, nonfinite: {}, part: 1 });
  assert.equal(state.epochs.length, 1);
  assert.deepEqual(state.epochs[0].values, { a: 1, b: null, z: 2 });
  assert.deepEqual(state.epochs[0].nonfinite, { b: "nan" });
  assert.equal(state.run.best_metric, 2);
  applyEvent(state, { ...epoch, seq: 3, values: { a: 9 }, nonfinite: {}, part: 0 });
  assert.deepEqual(state.epochs[0].values, { a: 9 });
});

test("it gathers knobs that are told in parts", () => {
  const state = emptyState();
  hello(state, {});
  applyEvent(state, { kind: "knobs", seq: 1, attempt: 1, step: 1, knobs: [{ name: "a" }], part: 0 });
  applyEvent(state, { kind: "knobs", seq: 2, attempt: 1, step: 1, knobs: [{ name: "b" }], part: 1 });
  assert.deepEqual(state.run.knobs.map((knob) => knob.name), ["a", "b"]);
  applyEvent(state, { kind: "knobs", seq: 3, attempt: 1, step: 2, knobs: [{ name: "a", effective: 0.5 }], part: 1 });
  assert.deepEqual(state.run.knobs, [{ name: "a", effective: 0.5 }, { name: "b" }]);
});

test("it keeps what an incomplete snapshot leaves out, and what is replayed brings it up to date", () => {
  const state = emptyState();
  state.knobs = [{ name: "rate" }];
  state.latest = { other: { step: 1, time: 1, value: 1, nonfinite: "" } };
  hello(state, { seq: 2, incomplete: ["latest", "knobs"], latest: { loss: { step: 9, time: 9, value: 9 } } });
  assert.equal(state.run.knobs[0].name, "rate");
  assert.equal(state.latest.other.value, 1);
  applyEvent(state, point(1, "other", 5));
  applyEvent(state, point(2, "loss", 5));
  assert.equal(state.latest.other.value, 5);
  assert.equal(state.latest.loss.value, 9);
});

test("it takes a replayed change of a command that the snapshot did not tell of", () => {
  const state = emptyState();
  state.commands.set("old", { id: "old", state: "sent" });
  hello(state, { seq: 1 });
  applyEvent(state, { kind: "command", seq: 1, at: "", id: "old", state: "applied" });
  assert.equal(state.commands.get("old").state, "applied");
});

test("of many series each holds fewer points, and minimum and maximum survive", () => {
  const state = emptyState();
  hello(state, {});
  const names = Array.from({ length: 5000 }, (_, index) => `layer/${index}`);
  for (let seq = 1; seq <= 4; seq += 1) {
    const steps = Array.from({ length: 100 }, (_, index) => (seq - 1) * 100 + index + 1);
    const values = Object.fromEntries(names.map((name) => [name, steps]));
    applyEvent(state, { kind: "metrics", seq, at: "", attempt: 1, blocks: [{ steps, times: steps, values }] });
  }
  const series = lineOf(state.series.get("layer/4999"));
  assert.ok(series.xs.length <= 163, String(series.xs.length));
  assert.equal(Math.max(...series.maxs), 400);
  assert.equal(Math.min(...series.mins), 1);
});
