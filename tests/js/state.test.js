import assert from "node:assert/strict";
import { test } from "node:test";

import { drawable, emptySeries, addPoints, MOST_BUCKETS } from "../../static/js/points.js";
import { applyEvent, emptyState } from "../../static/js/state.js";

const AT = "2026-01-02T03:04:05.000Z";

const RUN = {
  id: 1,
  name: "digits",
  state: "running",
  reason: "",
  attempt: 1,
  step: 0,
  epoch: 0,
  best_metric: null,
  best_metric_name: "validation_accuracy",
  best_epoch: null,
  started_at: null,
  ended_at: null,
  last_point_at: null,
  total_steps: null,
  total_epochs: null,
  steps_per_epoch: null,
  commands: [],
  end: null,
};

function hello(seq, replay = true, run = {}) {
  return {
    kind: "hello",
    protocol: "coxswain.v1",
    seq,
    replay,
    run: { ...RUN, ...run },
    latest: {},
    server_time: 0,
    viewer: { name: "Ada", role: "operator", may: ["stop"] },
    beat_interval_s: 1,
    life: "alive",
    link: "live",
  };
}

function metrics(seq, attempt, steps, values, nonfinite = {}) {
  return {
    seq,
    kind: "metrics",
    at: AT,
    attempt,
    blocks: [{ steps, times: steps.map((s) => 1000 + s), values, nonfinite }],
  };
}

function story() {
  return [
    {
      seq: 1,
      kind: "status",
      at: AT,
      state: "running",
      reason: "",
      attempt: 1,
      total_epochs: 3,
      total_steps: 30,
      steps_per_epoch: 10,
    },
    metrics(2, 1, [1, 2, 3], { "train/loss": [3, 2, 1], "train/accuracy": [0.1, 0.2, 0.3] }),
    {
      seq: 3,
      kind: "system",
      at: AT,
      attempt: 1,
      step: 3,
      time: 1003,
      values: { "gpu/0/utilisation": 80, "host/cpu": null },
    },
    {
      seq: 4,
      kind: "log",
      at: AT,
      attempt: 1,
      lines: [{ text: "hello", source: "console", level: "info" }],
      skipped_bytes: 0,
    },
    {
      seq: 5,
      kind: "epoch",
      at: AT,
      attempt: 1,
      epoch: 1,
      step: 10,
      duration_s: 2,
      best: true,
      values: { validation_accuracy: 0.8 },
      nonfinite: {},
    },
    metrics(6, 1, [11, 12], { "train/loss": [0.9, null] }, { "train/loss": [[1, "nan"]] }),
    {
      seq: 7,
      kind: "epoch",
      at: AT,
      attempt: 1,
      epoch: 2,
      step: 20,
      duration_s: 2,
      best: true,
      values: { validation_accuracy: 0.9 },
      nonfinite: {},
    },
    {
      seq: 8,
      kind: "command",
      at: AT,
      id: "c1",
      command: "stop",
      state: "sent",
      author: "Ada",
      arguments: {},
      sent_at: AT,
      reason: "",
    },
    {
      seq: 9,
      kind: "command",
      at: AT,
      id: "c1",
      command: "stop",
      state: "applied",
      author: "Ada",
      arguments: {},
      sent_at: AT,
      step: 21,
      reason: "",
    },
    {
      seq: 10,
      kind: "checkpoint",
      at: AT,
      attempt: 1,
      step: 21,
      epoch: 2,
      name: "last.pt",
      size_bytes: 10,
      sha256: "ab",
    },
    {
      seq: 11,
      kind: "status",
      at: AT,
      state: "stopped",
      reason: "asked to stop",
      attempt: 1,
      total_epochs: null,
      total_steps: null,
      steps_per_epoch: null,
    },
  ];
}

function played(events, state = applyEvent(emptyState(), hello(0))) {
  for (const event of events) applyEvent(state, event);
  return state;
}

/** What a reader of the page could see: all but counters of changes. */
function seen(state) {
  const { versions, runSeq, viewer, ...rest } = structuredClone(state);
  if (rest.run) delete rest.run.stepAttempt;
  rest.series = Object.fromEntries(
    [...rest.series].sort().map(([name, { version, attempt, since, ...columns }]) => [name, columns]),
  );
  rest.commands = Object.fromEntries(rest.commands);
  return rest;
}

/** The history that a server would send as of `seq`, made from a state that saw all of it. */
function historyOf(state) {
  const copy = structuredClone(state);
  const series = {};
  for (const [name, one] of copy.series) {
    series[name] = {
      axis: one.axis,
      raw: true,
      steps: one.xs,
      times: one.times,
      values: one.means,
      count: one.count,
      nonfinite: one.odd.map((entry) => [one.xs.indexOf(entry.x), entry.name]),
    };
  }
  return {
    kind: "history",
    seq: copy.seq,
    series,
    epochs: copy.epochs,
    commands: [...copy.commands.values()],
    checkpoints: copy.checkpoints,
    console: copy.console,
    events: copy.activity,
    attempts: [],
    environment: {},
    parameters: {},
  };
}

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

test("it lets a later attempt replace the steps that it trains again", () => {
  const state = played([
    metrics(1, 1, [1, 2, 3, 4, 5], { loss: [5, 4, null, 2, 1] }, { loss: [[2, "inf"]] }),
    metrics(2, 2, [3, 4], { loss: [30, 40] }),
  ]);
  const series = state.series.get("loss");
  assert.deepEqual(series.xs, [1, 2, 3, 4]);
  played([metrics(3, 1, [5, 6], { loss: [1, 1] }), metrics(4, 2, [5], { loss: [50] })], state);
  assert.deepEqual(series.xs, [1, 2, 3, 4, 5]);
  assert.deepEqual(series.means, [5, 4, 30, 40, 50]);
  assert.deepEqual(series.odd, []);
  assert.equal(series.count, 5);
});

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

test("it keeps points sorted and unique by step", () => {
  const state = played([
    metrics(1, 1, [1, 5, 9], { loss: [1, 5, 9] }),
    metrics(2, 1, [7, 3, 5, 11], { loss: [7, 3, 50, 11] }),
  ]);
  assert.deepEqual(state.series.get("loss").xs, [1, 3, 5, 7, 9, 11]);
  assert.deepEqual(state.series.get("loss").means, [1, 3, 50, 7, 9, 11]);
});

test("it breaks the line at what is not finite and keeps its name", () => {
  const state = played([
    metrics(
      1,
      1,
      [1, 2, 3],
      { loss: [1, null, null] },
      {
        loss: [
          [1, "nan"],
          [2, "-inf"],
        ],
      },
    ),
  ]);
  const series = state.series.get("loss");
  assert.deepEqual(series.means, [1, null, null]);
  assert.deepEqual(series.odd, [
    { x: 2, name: "nan" },
    { x: 3, name: "-inf" },
  ]);
  assert.deepEqual(state.latest.loss, { step: 3, time: 1003, value: null, nonfinite: "-inf" });
});

test("it bounds a series and keeps every spike and every NaN", () => {
  const series = emptySeries("loss");
  const total = 5 * MOST_BUCKETS;
  for (let step = 0; step < total; step += 1) {
    const odd = step === 100 ? new Map([[0, "nan"]]) : null;
    addPoints(series, 1, [step], [step], [step === 777 ? 1e6 : step === 20_001 ? -1e6 : 1], odd);
  }
  assert.ok(series.xs.length <= MOST_BUCKETS);
  assert.equal(series.count, total);
  assert.equal(Math.max(...series.maxs), 1e6);
  assert.equal(Math.min(...series.mins), -1e6);
  assert.deepEqual(series.odd, [{ x: 100, name: "nan" }]);
  assert.equal(series.xs.at(-1), total - 1);
  const drawn = drawable(series, 0, total, 400);
  assert.ok(drawn.xs.length <= 402);
  assert.equal(drawn.points, total);
  assert.equal(Math.max(...drawn.maxs), 1e6);
  assert.equal(Math.min(...drawn.mins), -1e6);
});

test("it continues a downsampled history", () => {
  const state = applyEvent(emptyState(), {
    ...historyOf(played([])),
    seq: 7,
    series: {
      loss: {
        axis: "step",
        raw: false,
        first_steps: [1, 11],
        steps: [10, 20],
        times: [10, 20],
        min: [0, 1],
        max: [9, 8],
        mean: [4, 5],
        last: [1, 2],
        nonfinite: [[1, "nan"]],
        count: 20,
        buckets: 2,
      },
    },
  });
  applyEvent(state, metrics(8, 1, [21], { loss: [3] }));
  const series = state.series.get("loss");
  assert.deepEqual(series.xs, [10, 20, 21]);
  assert.deepEqual(series.maxs, [9, 8, 3]);
  assert.equal(series.count, 21);
  assert.deepEqual(series.odd, [{ x: 20, name: "nan" }]);
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
  assert.equal(state.console.at(-1).source, "skipped");
});

test("it ignores kinds that it does not know", () => {
  const state = played([{ seq: 1, kind: "invented", at: AT }]);
  assert.equal(state.seq, 1);
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
