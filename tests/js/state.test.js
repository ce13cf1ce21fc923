import assert from "node:assert/strict";
import { test } from "node:test";

import { applyEvent, emptyState } from "../../static/js/state/run_state.js";
import { AT, hello, historyOf, metrics, played, seen, story } from "./story.js";

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
  assert.deepEqual(state.series.get("train/loss").xs, [1, 2, 3, 11, 12]);
});

test("it ends the same from a history at any seq plus the later events", () => {
  const whole = played(story());
  for (let cut = 0; cut <= story().length; cut += 1) {
    const early = played(story().slice(0, cut));
    const state = applyEvent(emptyState(), historyOf(early));
    applyEvent(state, hello(cut, true, structuredClone(early.run)));
    Object.assign(state, { latest: structuredClone(early.latest), lastPointAt: early.lastPointAt });
    state.consoleTotal = early.consoleTotal;
    assert.deepEqual(seen(played(story().slice(cut), state)), seen(whole), `cut after seq ${cut}`);
  }
});

test("it keeps the newer run of a hello while older events are replayed", () => {
  const early = played(story().slice(0, 4));
  const state = applyEvent(emptyState(), historyOf(early));
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
  assert.deepEqual(seen(state), seen(played(story())));
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
