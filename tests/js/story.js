// A run as events tell it, from its start to a stop, and what tests compare of the state that the page makes of it.

import { applyEvent, emptyState } from "../../static/js/state/run_state.js";

export const AT = "2026-01-02T03:04:05.000Z";

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

export function hello(seq, replay = true, run = {}) {
  return {
    kind: "hello",
    protocol: "steersman.v1",
    seq,
    replay,
    run: { ...RUN, ...run },
    latest: {},
    server_time: 0,
    viewer: { name: "Ada", role: "operator", may: ["stop"] },
    heartbeat_interval_s: 1,
    life: "alive",
    link: "live",
  };
}

export function metrics(seq, attempt, steps, values, nonfinite = {}) {
  return {
    seq,
    kind: "metrics",
    at: AT,
    attempt,
    blocks: [{ steps, times: steps.map((s) => 1000 + s), values, nonfinite }],
  };
}

export function story() {
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

export function played(events, state = applyEvent(emptyState(), hello(0))) {
  for (const event of events) applyEvent(state, event);
  return state;
}

/** What a reader of the page could see: all but counters of changes. */
export function seen(state) {
  const { versions, runSeq, viewer, ...rest } = structuredClone(state);
  if (rest.run) delete rest.run.stepAttempt;
  rest.series = Object.fromEntries(
    [...rest.series].sort().map(([name, { version, attempt, since, ...columns }]) => [name, columns]),
  );
  rest.commands = Object.fromEntries(rest.commands);
  return rest;
}

/** The history that a server would send as of `seq`, made from a state that saw all of it. */
export function historyOf(state) {
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
