// The events of a run from its start to a stop, and the parts of the page's state that tests compare.

import { applyEvent, emptyState } from "../../static/js/state/run_state.js";

export const AT = "2026-01-02T03:04:05.000Z";

/** The status of the run, in a greeting as in an event. */
export const STATUS = {
  state: "running",
  group: "live",
  reason: "",
  attempt: 1,
  ranks: 1,
  started_at: AT,
  ended_at: null,
  trained_s: 0,
  training_since: AT,
  total_steps: null,
  total_epochs: null,
  steps_per_epoch: null,
  restarts: 0,
  restarts_used: 0,
  last_attempt: null,
  not_looking_since: null,
  offers: ["save_checkpoint", "evaluate", "extend"],
};

const RUN = {
  ...STATUS,
  id: 1,
  name: "digits",
  step: 0,
  epoch: 0,
  best_metric: null,
  best_metric_name: "",
  best_epoch: null,
  last_point_at: null,
  stalled_since: null,
  usual_step_s: null,
  commands: [],
};

export function status(seq, changed = {}) {
  return { seq, kind: "status", at: AT, remark: "", ...STATUS, ...changed };
}

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
    watchers: { count: 1, guests: 0, names: ["Ada"] },
  };
}

export function metrics(seq, attempt, steps, values, nonfinite = {}) {
  return {
    seq,
    kind: "metrics",
    at: AT,
    attempt,
    step: steps.at(-1),
    last_point_at: AT,
    blocks: [{ steps, times: steps.map((s) => 1000 + s), values, nonfinite }],
  };
}

export function story() {
  return [
    status(1, { total_epochs: 3, total_steps: 30, steps_per_epoch: 10 }),
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
      best_metric: 0.8,
      best_metric_name: "validation_accuracy",
      part: 0,
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
      best_metric: 0.9,
      best_metric_name: "validation_accuracy",
      part: 0,
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
      id: 5,
      created_at: AT,
      attempt: 1,
      step: 21,
      epoch: 2,
      name: "last.pt",
      size_bytes: 10,
      sha256: "ab",
    },
    status(11, {
      state: "stopped",
      group: "ended",
      reason: "asked to stop",
      total_epochs: 3,
      total_steps: 30,
      steps_per_epoch: 10,
      ended_at: AT,
      trained_s: 5,
      training_since: null,
    }),
  ];
}

export function played(events, state = applyEvent(emptyState(), hello(0))) {
  for (const event of events) applyEvent(state, event);
  return state;
}

/** Return a history of `seq` that contains nothing but `changed`. */
export function history(seq, changed = {}) {
  return {
    kind: "history",
    seq,
    series: {},
    epochs: [],
    commands: [],
    checkpoints: [],
    console: [],
    events: [],
    texts: [],
    alerts: [],
    attempts: [],
    environment: {},
    parameters: {},
    about: null,
    ...changed,
  };
}
