import assert from "node:assert/strict";
import { test } from "node:test";

import { applyEvent, emptyState } from "../../static/js/state/run_state.js";
import { lineOf } from "../../static/js/state/series.js";
import { AT, hello, history, metrics, played, status, story } from "./story.js";

test("it tells the whole story from events alone", () => {
  const state = played(story());
  assert.equal(state.run.state, "stopped");
  assert.equal(state.run.step, 12);
  assert.equal(state.run.total_steps, 30);
  assert.equal(state.run.best_metric, 0.9);
  assert.deepEqual(
    state.epochs.map((row) => row.best),
    [false, true],
  );
  assert.equal(state.commands.get("c1").state, "applied");
  assert.equal(state.series.get("gpu/0/utilisation").axis, "time");
  assert.ok(!state.series.has("host/cpu"));
  assert.deepEqual(lineOf(state.series.get("train/loss")).xs, [1, 2, 3, 11, 12]);
});

test("it keeps the newer run of a hello while older events are replayed", () => {
  const state = applyEvent(emptyState(), history(4));
  applyEvent(state, hello(11, true, { state: "stopped", step: 12, best_metric: 0.9 }));
  for (const event of story().slice(4)) {
    applyEvent(state, event);
    assert.equal(state.run.state, "stopped");
    assert.equal(state.run.step, 12);
    assert.equal(state.run.best_metric, 0.9);
  }
  assert.equal(state.seq, 11);
  assert.equal(state.epochs.length, 2);
});

test("it counts every event once, however often it arrives", () => {
  const doubled = story().flatMap((event) => [event, structuredClone(event)]);
  const state = played([...doubled, ...story()]);
  const once = played(story());
  for (const known of [state, once]) known.versions = {};
  assert.deepEqual(state, once);
});

test("it leaves the events it is given as they were", () => {
  const events = story();
  played([
    ...events,
    metrics(12, 2, [2, 3], { "train/loss": [1, 1] }),
    metrics(13, 1, [1, 2, 3], { "train/loss": [9, 9, 9] }),
  ]);
  assert.deepEqual(events, story());
});

test("it takes no event after a gap and says so", () => {
  const state = played([...story().slice(0, 3), story()[4]]);
  assert.equal(state.seq, 3);
  assert.equal(state.gap, true);
  assert.equal(state.epochs.length, 0);
});

test("it ignores kinds that it does not know", () => {
  const state = played([{ seq: 1, kind: "invented", at: AT }]);
  assert.equal(state.seq, 1);
});

test("the history of an attempt that was overtaken changes lines and not where the run is", () => {
  const state = played(story());
  applyEvent(state, status(state.seq + 1, { attempt: 2 }));
  const { step, last_point_at: at } = state.run;
  const latest = structuredClone(state.latest);
  applyEvent(state, metrics(state.seq + 1, 1, [90, 91], { "train/loss": [0.5, 0.25] }));
  assert.deepEqual([state.run.step, state.run.last_point_at, state.latest], [step, at, latest]);
  assert.ok(state.attempts.every(({ number, last_step: last }) => number !== 1 || last === 91));
});
