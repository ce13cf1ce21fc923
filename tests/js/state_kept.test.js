import assert from "node:assert/strict";
import { test } from "node:test";

import { applyEvent, emptyState } from "../../static/js/state/run_state.js";
import { countedEpochs, earlierEpochs } from "../../static/js/state/epochs.js";
import { inOrder, openAlerts } from "../../static/js/state/alerts.js";
import { AT, hello, history, played, status } from "./story.js";

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
    best_metric: best ? number / 10 : null,
    best_metric_name: best ? "validation_accuracy" : "",
    part: 0,
  });
  const state = played([epoch(1, 1, 1, true), epoch(2, 1, 2, true), epoch(3, 1, 3, false), epoch(4, 2, 2, true)]);
  const shown = (rows) => rows.map((row) => [row.attempt, row.epoch, row.best]);
  const [first, second, third] = [[1, 1, false], [1, 2, false], [1, 3, false]];
  assert.deepEqual(shown(countedEpochs(state.epochs)), [first, [2, 2, true]]);
  assert.deepEqual(
    earlierEpochs(state.epochs).map(({ attempt, rows }) => [attempt, shown(rows)]),
    [[1, [second, third]]],
  );
  assert.deepEqual(shown(countedEpochs(state.epochs, 1)), [first, second, third], "as the first attempt left them");
  played([epoch(5, 1, 4, false)], state);
  assert.deepEqual(shown(countedEpochs(state.epochs)), [first, [2, 2, true]], "what the first attempt left comes late");
});

test("an epoch that one attempt logs again keeps its earlier values as a line of their own", () => {
  const epoch = (seq, number, order, part = 0) => ({
    seq,
    kind: "epoch",
    at: AT,
    attempt: 1,
    epoch: number,
    order,
    step: number,
    duration_s: null,
    best: false,
    values: part ? { more: seq } : { loss: seq },
    nonfinite: {},
    best_metric: null,
    best_metric_name: "",
    part,
  });
  const state = played([epoch(1, 1, 0), epoch(2, 2, 0), epoch(3, 1, 1), epoch(4, 1, 1, 1), epoch(5, 1, 2)]);
  const shown = (rows) => rows.map((row) => [row.epoch, row.order, row.values]);
  assert.deepEqual(shown(countedEpochs(state.epochs)), [
    [1, 2, { loss: 5 }],
    [2, 0, { loss: 2 }],
  ]);
  assert.deepEqual(
    earlierEpochs(state.epochs).map(({ attempt, order, rows }) => [attempt, order, shown(rows)]),
    [
      [1, 0, [[1, 0, { loss: 1 }]]],
      [1, 1, [[1, 1, { loss: 3, more: 4 }]]],
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
  // The skipped part comes before the ten lines that were kept.
  assert.deepEqual([state.console.at(-11).source, state.console.at(-11).skipped], ["skipped", 512]);
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

test("it keeps the knobs of the current attempt, as of the newest word", () => {
  const knob = (value) => [{ name: "learning_rate", kind: "float", groups: [], value, effective: null }];
  const state = applyEvent(emptyState(), hello(4, true, { knobs: knob(0.1) }));
  const told = (seq, value) => ({ seq, kind: "knobs", at: AT, attempt: 1, step: 9, knobs: knob(value) });
  state.seq = 3;
  applyEvent(state, told(4, 0.2));
  assert.equal(state.run.knobs[0].value, 0.1, "older than the snapshot");
  applyEvent(state, told(5, 0.3));
  assert.equal(state.run.knobs[0].value, 0.3);
  applyEvent(state, status(6, { state: "paused" }));
  assert.equal(state.run.knobs.length, 1);
  applyEvent(state, { seq: 7, kind: "knobs", at: AT, attempt: 2, step: 9, knobs: [] });
  assert.deepEqual(state.run.knobs, [], "a new attempt declares its own");
});

test("it tells a stall until the training steps again", () => {
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
  assert.equal(state.run.usual_step_s, null);
  assert.equal(state.activity.filter((event) => event.kind === "stall").length, 2);
});

test("it keeps the checkpoints that are left", () => {
  const saved = (seq, id, name) => ({
    seq,
    kind: "checkpoint",
    at: AT,
    id,
    created_at: `2026-01-01T00:00:0${seq}Z`,
    attempt: 1,
    step: 5,
    epoch: 1,
    name,
    size_bytes: 1,
    sha256: "",
    reason: "last",
    metrics: {},
    metrics_left_out: 0,
  });
  const removed = { seq: 4, kind: "checkpoints_removed", at: AT, attempt: 1, ids: [7] };
  const state = played([saved(1, 7, "a"), saved(2, 8, "b"), saved(3, 9, "c"), removed, saved(5, 8, "b")], emptyState());
  assert.deepEqual(
    state.checkpoints.map(({ id, name }) => [id, name]),
    [
      [8, "b"],
      [9, "c"],
    ],
    "the newest first, and one that was saved again once",
  );
});

test("details that were read before an event change nothing that the event told", () => {
  const attempt = { number: 1, ended_at: null, outcome: "" };
  const checkpoint = { id: 7, name: "a", created_at: AT };
  const state = applyEvent(emptyState(), history(1, { attempts: [attempt], checkpoints: [checkpoint] }));
  applyEvent(state, status(2, { last_attempt: { ...attempt, ended_at: AT, outcome: "failed" } }));
  applyEvent(state, { seq: 3, kind: "checkpoints_removed", at: AT, attempt: 1, ids: [7] });
  const older = { attempts: [{ ...attempt, traceback: "Traceback …" }], checkpoints: [checkpoint], environment: { a: 1 } };
  applyEvent(state, { kind: "details", ...older });
  assert.deepEqual(state.attempts, [{ ...attempt, ended_at: AT, outcome: "failed", traceback: "Traceback …" }]);
  assert.deepEqual(state.checkpoints, []);
  assert.deepEqual(state.environment, { a: 1 });
});

test("a history brings the knobs that a greeting leaves out", () => {
  const knob = (value) => [{ name: "rate", value }];
  const state = applyEvent(emptyState(), hello(1, true, { knobs: knob(1) }));
  applyEvent(state, history(5, { knobs: knob(2) }));
  applyEvent(state, { ...hello(5, true), incomplete: ["knobs"] });
  assert.equal(state.run.knobs[0].value, 2);
});

test("it keeps as many epochs and attempts as the history gives, the newest", () => {
  const state = emptyState();
  const epoch = { kind: "epoch", at: AT, step: 1, duration_s: null, best: false, values: {}, nonfinite: {}, part: 0 };
  for (let seq = 1; seq <= 2003; seq += 1)
    applyEvent(state, { ...epoch, seq, attempt: seq < 4 ? 2 : 3, epoch: seq < 4 ? 5000 + seq : seq });
  assert.equal(state.epochs.length, 2000);
  assert.deepEqual([...new Set(state.epochs.map((row) => row.attempt))], [3]);
  for (let number = 1; number <= 203; number += 1)
    applyEvent(state, status(2003 + number, { attempt: number, last_attempt: { number } }));
  assert.deepEqual([state.attempts.length, state.attempts[0].number], [200, 4]);
});

test("it keeps one alert an id, the newest first, and tells the most severe that last", () => {
  const alert = (seq, id, severity, state) => ({ seq, kind: "alert", at: AT, id, severity, state, title: "Spike" });
  const state = played([
    alert(1, 1, "warning", "open"),
    alert(2, 2, "critical", "open"),
    alert(3, 3, "info", "open"),
    alert(4, 4, "warning", "open"),
    alert(5, 2, "critical", "acknowledged"),
    alert(6, 1, "warning", "cleared"),
  ]);
  const shown = (alerts) => alerts.map(({ id, state: told }) => [id, told]);
  assert.deepEqual(shown(state.alerts), [
    [4, "open"],
    [3, "open"],
    [2, "acknowledged"],
    [1, "cleared"],
  ]);
  assert.deepEqual(shown(openAlerts(state.alerts)), [
    [4, "open"],
    [3, "open"],
  ]);
  const listed = [
    { id: 1, severity: "warning", state: "open" },
    { id: 2, severity: "critical", state: "cleared" },
    { id: 3, severity: "info", state: "cleared" },
    { id: 4, severity: "critical", state: "acknowledged" },
    { id: 5, severity: "info", state: "open" },
    { id: 6, severity: "warning", state: "open" },
  ];
  assert.deepEqual(
    inOrder(listed).map(({ id }) => id),
    [6, 1, 5, 4, 3, 2],
  );
  applyEvent(state, history(9, { alerts: [state.alerts[3], state.alerts[2]] }));
  assert.deepEqual(shown(state.alerts), [
    [2, "acknowledged"],
    [1, "cleared"],
  ]);
});

test("a checkpoint is marked and rated, and loses its rating where it is saved again", () => {
  const saved = { seq: 2, kind: "checkpoint", at: AT, attempt: 1, id: 7, name: "a", step: 5, created_at: AT };
  const state = applyEvent(emptyState(), history(1, {}));
  applyEvent(state, saved);
  applyEvent(state, { seq: 3, kind: "checkpoint_marked", at: AT, attempt: 1, id: 7, keep: true, good: true });
  const marks = () => state.checkpoints.map(({ keep, good }) => [keep, good]);
  assert.deepEqual(marks(), [[true, true]]);
  applyEvent(state, { ...saved, seq: 4 });
  assert.deepEqual(marks(), [[true, false]]);
});

test("a checkpoint tells where its files are, and its host when the details have it", () => {
  const saved = { seq: 2, kind: "checkpoint", at: AT, attempt: 1, id: 7, name: "a", step: 5, created_at: AT };
  const state = applyEvent(emptyState(), history(1, {}));
  const asked = state.versions.attempts;
  applyEvent(state, saved);
  assert.equal(state.versions.attempts, asked + 1, "the details have the host of the attempt");
  applyEvent(state, { ...saved, seq: 3, id: 8 });
  assert.equal(state.versions.attempts, asked + 1, "which is the same for the next one");
  const places = () => state.checkpoints.map(({ host, on_host, pushed }) => [host, on_host, pushed]);
  applyEvent(state, { kind: "details", attempts: [], checkpoints: [{ id: 7, host: "gpu-1" }, { id: 8, host: "gpu-1" }] });
  assert.deepEqual(places(), [["gpu-1", true, false], ["gpu-1", true, false]]);
  applyEvent(state, { seq: 4, kind: "checkpoint_placed", at: AT, attempt: 1, id: 7, on_host: false, pushed: true });
  assert.deepEqual(places(), [["gpu-1", true, false], ["gpu-1", false, true]]);
  applyEvent(state, { ...saved, seq: 5 });
  assert.deepEqual(places(), [["gpu-1", true, false], ["gpu-1", true, false]], "another one was saved in its place");
});
