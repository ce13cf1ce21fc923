import assert from "node:assert/strict";
import { test } from "node:test";

import { applyEvent, emptyState } from "../../static/js/state/run_state.js";
import { AT, hello, played } from "./story.js";

test("it lets a later attempt replace the epochs that it trains again", () => {
  const epoch = (seq, attempt, number, best) => ({
    seq,
    kind: "epoch",
    at: AT,
    attempt,
    epoch: number,
    step: 10 * number,
    duration_s: 1,
    best,
    values: { validation_accuracy: number / 10 },
    nonfinite: {},
  });
  const state = played([epoch(1, 1, 1, true), epoch(2, 1, 2, true), epoch(3, 1, 3, false), epoch(4, 2, 2, true)]);
  assert.deepEqual(
    state.epochs.map((row) => [row.attempt, row.epoch, row.best]),
    [
      [1, 1, false],
      [2, 2, true],
    ],
  );
});

test("it bounds the console and counts what the host skipped", () => {
  const state = emptyState();
  for (let seq = 1; seq <= 300; seq += 1) {
    const lines = Array.from({ length: 10 }, (_, index) => ({
      text: `${seq}.${index}`,
      source: "console",
      level: "info",
    }));
    applyEvent(state, { seq, kind: "log", at: AT, attempt: 1, lines, skipped_bytes: seq === 300 ? 512 : 0 });
  }
  assert.equal(state.console.length, 2000);
  assert.equal(state.skippedBytes, 512);
  // What was skipped came before the ten lines that were kept.
  assert.equal(state.console.at(-11).source, "skipped");
});

test("it keeps the newest texts, once each", () => {
  const fields = { kind: "text", at: AT, attempt: 1, epoch: null, name: "sample" };
  const text = (seq) => ({ ...fields, seq, step: seq, text: `<b>${seq}</b>` });
  const state = emptyState();
  for (let seq = 1; seq <= 60; seq += 1) applyEvent(state, text(seq));
  applyEvent(state, text(60));
  assert.equal(state.texts.length, 50);
  assert.deepEqual([state.texts[0].seq, state.texts.at(-1).seq], [11, 60]);
  assert.equal(state.texts.at(-1).text, "<b>60</b>");
});

test("it keeps the knobs of the present attempt, as of the newest word", () => {
  const knob = (value) => [{ name: "learning_rate", kind: "float", groups: [], value, effective: null }];
  const state = applyEvent(emptyState(), hello(4, true, { knobs: knob(0.1) }));
  const told = (seq, value) => ({ seq, kind: "knobs", at: AT, attempt: 1, step: 9, knobs: knob(value) });
  state.seq = 3;
  applyEvent(state, told(4, 0.2));
  assert.equal(state.run.knobs[0].value, 0.1, "older than the snapshot");
  applyEvent(state, told(5, 0.3));
  assert.equal(state.run.knobs[0].value, 0.3);
  applyEvent(state, { seq: 6, kind: "status", at: AT, state: "paused", reason: "", attempt: 1 });
  assert.equal(state.run.knobs.length, 1);
  applyEvent(state, { seq: 7, kind: "status", at: AT, state: "running", reason: "", attempt: 2 });
  assert.deepEqual(state.run.knobs, [], "a new attempt declares its own");
});

test("it tells a stall until the training steps again, or ends", () => {
  const state = applyEvent(emptyState(), hello(0, true, { stalled_since: null }));
  const stall = (seq, stalled) => ({
    seq,
    kind: "stall",
    at: AT,
    attempt: 1,
    stalled,
    since: stalled ? AT : null,
    usual_step_s: 0.2,
  });
  applyEvent(state, stall(1, true));
  assert.deepEqual([state.run.stalled_since, state.run.usual_step_s], [AT, 0.2]);
  applyEvent(state, stall(2, false));
  assert.equal(state.run.stalled_since, null);
  applyEvent(state, stall(3, true));
  applyEvent(state, { seq: 4, kind: "status", at: AT, state: "failed", reason: "", attempt: 1 });
  assert.equal(state.run.stalled_since, null);
  assert.equal(state.activity.filter((event) => event.kind === "stall").length, 3);
});

test("it takes the list of checkpoints that are left from the details", () => {
  const state = emptyState();
  const saved = {
    seq: 1,
    kind: "checkpoint",
    at: AT,
    attempt: 1,
    step: 5,
    epoch: 1,
    name: "a",
    size_bytes: 1,
    sha256: "",
  };
  applyEvent(state, saved);
  const left = { id: 7, attempt: 1, step: 9, epoch: 1, name: "b", created_at: AT };
  applyEvent(state, { kind: "details", attempts: [], checkpoints: [left], restarts: 3, restarts_used: 2 });
  assert.deepEqual(
    state.checkpoints.map((checkpoint) => checkpoint.name),
    ["b"],
  );
  assert.deepEqual(state.restarts, { allowed: 3, used: 2 });
});
