// What the page knows about a run, and the one function that changes it.
//
// `applyEvent(state, event)` serves the snapshot (`hello`), the loaded history, live events and replay alike. It uses
// nothing but its arguments: no DOM, no clock, no network. It works in place, because copying long series ten times
// a second would cost more than drawing them; `versions` tells painters what changed.

import { MESSAGES, MOST_ACTIVITY, MOST_CONSOLE_LINES, MOST_TEXTS, seconds } from "./messages.js";
import { addPoints, axisOf, bucketsEach, emptySeries } from "./series.js";

// More than the history gives; the oldest go first.
const MOST_COMMANDS = 1000;
const ENDED = new Set(["finished", "stopped", "failed", "lost"]);

export function emptyState() {
  return {
    seq: 0,
    runSeq: 0,
    run: null,
    viewer: null,
    life: "alive",
    silentS: 0,
    link: "",
    gap: false,
    lastPointAt: null,
    series: new Map(),
    latest: {},
    knobs: [],
    // What the last snapshot left out, and of which series and commands it told.
    lacks: new Set(),
    greeted: { series: new Set(), commands: new Set() },
    epochs: [],
    console: [],
    skippedBytes: 0,
    consoleTotal: 0,
    activity: [],
    texts: [],
    commands: new Map(),
    checkpoints: [],
    attempts: [],
    restarts: { allowed: 0, used: 0 },
    environment: {},
    parameters: {},
    lastError: null,
    versions: {
      run: 0,
      link: 0,
      layout: 0,
      series: 0,
      epochs: 0,
      console: 0,
      activity: 0,
      texts: 0,
      knobs: 0,
      commands: 0,
      checkpoints: 0,
      attempts: 0,
      details: 0,
      errors: 0,
    },
  };
}

/** Apply one event or message and return the state. Numbered events count once: doubles and old ones change nothing. */
export function applyEvent(state, event) {
  const message = MESSAGES[event.kind];
  if (message) {
    message(state, event);
    return state;
  }
  if (!Number.isInteger(event.seq) || event.seq <= state.seq) return state;
  if (event.seq > state.seq + 1) {
    state.gap = true;
    return state;
  }
  state.seq = event.seq;
  EVENTS[event.kind]?.(state, event, event.seq > state.runSeq);
  return state;
}

export function hasEnded(run) {
  return ENDED.has(run?.state);
}

const EVENTS = {
  metrics(state, event, news) {
    const most = bucketsEach(state.series.size);
    for (const block of event.blocks) {
      for (const [name, column] of Object.entries(block.values)) {
        const odd = block.nonfinite?.[name]?.length ? new Map(block.nonfinite[name]) : null;
        const series = seriesNamed(state, name);
        const xs = series.axis === "time" ? block.times : block.steps;
        addPoints(series, event.attempt, xs, block.times, column, odd, most);
        if (isNewer(state, news, name)) noteLatest(state, name, block, column, odd);
      }
      if (news && block.steps.length) noteStep(state, event, block);
    }
    state.versions.series += 1;
  },

  system(state, event, news) {
    for (const [name, value] of Object.entries(event.values)) {
      if (value === null) continue;
      addPoints(seriesNamed(state, name, "time"), event.attempt, [event.time], [event.time], [value], null);
      if (isNewer(state, news, name)) state.latest[name] = { step: event.step, time: event.time, value, nonfinite: "" };
    }
    state.versions.series += 1;
  },

  epoch(state, event, news) {
    const { part = 0, ...own } = fields(event);
    const before = part
      ? state.epochs.find((known) => known.epoch === own.epoch && known.attempt === own.attempt)
      : undefined;
    const row = before
      ? { ...own, values: { ...before.values, ...own.values }, nonfinite: { ...before.nonfinite, ...own.nonfinite } }
      : own;
    // A later attempt that trains epochs again replaces them, as it does with points.
    state.epochs = state.epochs.filter(
      (known) => known.epoch < row.epoch || (known.attempt >= row.attempt && known.epoch !== row.epoch),
    );
    if (row.best) state.epochs = state.epochs.map((known) => (known.best ? { ...known, best: false } : known));
    state.epochs.push(row);
    state.epochs.sort((left, right) => left.epoch - right.epoch || left.attempt - right.attempt);
    state.versions.epochs += 1;
    if (!news || !state.run) return;
    state.run.epoch = event.epoch;
    state.run.last_epoch = row;
    if (event.best) {
      state.run.best_epoch = event.epoch;
      const best = row.values[state.run.best_metric_name];
      if (best !== undefined) state.run.best_metric = best;
    }
    state.versions.run += 1;
  },

  status(state, event, news) {
    noteActivity(state, event);
    if (!news || !state.run) return;
    const run = state.run;
    if (event.attempt > run.attempt) {
      // A new attempt declares its knobs anew.
      run.end = null;
      run.knobs = [];
      state.versions.knobs += 1;
    }
    if (event.attempt > run.attempt || ENDED.has(event.state)) run.stalled_since = null;
    run.state = event.state;
    run.reason = event.reason;
    run.attempt = event.attempt;
    for (const total of ["total_epochs", "total_steps", "steps_per_epoch"]) {
      if (event[total] !== null && event[total] !== undefined) run[total] = event[total];
    }
    if (event.state === "running") run.started_at ??= event.at;
    run.ended_at = ENDED.has(event.state) ? event.at : null;
    state.versions.run += 1;
    state.versions.attempts += 1;
  },

  command(state, event, news) {
    noteActivity(state, event);
    const { seq, kind, at, ...command } = event;
    // What the snapshot told of a command is newer than an event before it; of the others history told, before both.
    if (news || !state.greeted.commands.has(command.id)) state.commands.set(command.id, command);
    if (state.commands.size > MOST_COMMANDS) state.commands.delete(state.commands.keys().next().value);
    state.versions.commands += 1;
  },

  knobs(state, event, news) {
    if (!state.run || !(news || state.lacks.has("knobs"))) return;
    state.run.knobs = event.part ? [...(state.run.knobs ?? []), ...event.knobs] : event.knobs;
    state.versions.knobs += 1;
  },

  stall(state, event, news) {
    noteActivity(state, event);
    if (!news || !state.run) return;
    state.run.stalled_since = event.stalled ? event.since : null;
    if (event.usual_step_s !== null) state.run.usual_step_s = event.usual_step_s;
    state.versions.run += 1;
  },

  checkpoint(state, event) {
    noteActivity(state, event);
    const { seq, kind, at, ...checkpoint } = event;
    const known = state.checkpoints.filter(
      (other) => other.name !== checkpoint.name || other.attempt !== checkpoint.attempt,
    );
    state.checkpoints = [{ ...checkpoint, created_at: at }, ...known].slice(0, MOST_ACTIVITY);
    state.versions.checkpoints += 1;
  },

  text(state, event) {
    state.texts.push(event);
    if (state.texts.length > MOST_TEXTS) state.texts.splice(0, state.texts.length - MOST_TEXTS);
    state.versions.texts += 1;
  },

  log(state, event) {
    // What was skipped came before these lines.
    if (event.skipped_bytes) {
      state.skippedBytes += event.skipped_bytes;
      state.console.push({ text: "", source: "skipped", level: "warning", at: event.at, skipped: event.skipped_bytes });
      state.consoleTotal += 1;
    }
    for (const line of event.lines) state.console.push({ ...line, at: event.at });
    state.consoleTotal += event.lines.length;
    if (state.console.length > MOST_CONSOLE_LINES) state.console.splice(0, state.console.length - MOST_CONSOLE_LINES);
    state.versions.console += 1;
  },
};

function seriesNamed(state, name, axis = axisOf(name)) {
  let series = state.series.get(name);
  if (!series) {
    series = emptySeries(name);
    series.axis = axis;
    state.series.set(name, series);
    state.versions.layout += 1;
  }
  return series;
}

/** Whether an event tells more of a series than the snapshot did. */
function isNewer(state, news, name) {
  return news || (state.lacks.has("latest") && !state.greeted.series.has(name));
}

function noteLatest(state, name, block, column, odd) {
  let index = column.length - 1;
  while (index >= 0 && column[index] === null && !odd?.has(index)) index -= 1;
  if (index < 0) return;
  state.latest[name] = {
    step: block.steps[index],
    time: block.times[index],
    value: column[index],
    nonfinite: odd?.get(index) ?? "",
  };
}

function noteStep(state, event, block) {
  state.lastPointAt = seconds(event.at);
  if (!state.run) return;
  const step = block.steps[block.steps.length - 1];
  const resumed = event.attempt > (state.run.stepAttempt ?? state.run.attempt);
  if (step > state.run.step || resumed) state.run.step = step;
  state.run.stepAttempt = event.attempt;
  state.versions.run += 1;
}

function noteActivity(state, event) {
  state.activity.push(event);
  if (state.activity.length > MOST_ACTIVITY) state.activity.splice(0, state.activity.length - MOST_ACTIVITY);
  state.versions.activity += 1;
}

function fields(event) {
  const { seq, kind, at, ...own } = event;
  return { ...own, nonfinite: own.nonfinite ?? {} };
}
