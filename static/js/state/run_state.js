// The page's state of a run, and the one function that changes it.
//
// `applyEvent(state, event)` handles the snapshot (`hello`), the loaded history, live events and replay alike. It uses
// only its arguments: no DOM, no clock, no network. It works in place, because copying long series ten times per second
// would cost more than drawing them; `versions` shows painters what changed.

import { pointsAfter } from "./blocks.js";
import { earlierEpochsFirst, newestEpochs } from "./epochs.js";
import {
  MESSAGES,
  MOST_ACTIVITY,
  MOST_ALERTS,
  MOST_CONSOLE_LINES,
  MOST_TEXTS,
  newestAlertFirst,
  newestCheckpointFirst,
  noteAttempt,
} from "./messages.js";
import { axisOf, bucketsEach, emptySeries } from "./series.js";
import { nonfiniteOf, sightTaken, takeColumn } from "./sight.js";

// As many as the history has; the oldest are dropped first.
const MOST_COMMANDS = 500;
const MOST_EPOCHS = 2000;
const MOST_CHECKPOINTS = 200;

export function emptyState() {
  return {
    seq: 0,
    // The time at which event `seq` was stored, "" if unknown: another database may have another event with that
    // number.
    seqAt: "",
    runSeq: 0,
    run: null,
    viewer: null,
    life: "alive",
    silentS: 0,
    link: "",
    // {count, guests, names} over all portals, null before `hello`.
    watchers: null,
    gap: false,
    series: new Map(),
    // The names of the series that the page shows, null for all, and the number of requests without an answer.
    sight: null,
    looks: 0,
    latest: {},
    knobs: [],
    // The fields that the last snapshot omitted, and the series and commands that it contained.
    lacks: new Set(),
    greeted: { series: new Set(), commands: new Set() },
    epochs: [],
    console: [],
    unfinished: [],
    activity: [],
    texts: [],
    alerts: [],
    commands: new Map(),
    checkpoints: [],
    attempts: [],
    environment: {},
    parameters: {},
    // {name, description, html, tags, archived, review}: what people wrote; null for guests, and before the history.
    about: null,
    lastError: null,
    versions: {
      run: 0,
      link: 0,
      layout: 0,
      series: 0,
      epochs: 0,
      console: 0,
      unfinished: 0,
      activity: 0,
      texts: 0,
      alerts: 0,
      knobs: 0,
      commands: 0,
      checkpoints: 0,
      attempts: 0,
      details: 0,
      errors: 0,
    },
  };
}

/**
 * Apply one event or message and return the state. Numbered events apply once: duplicates and old ones change nothing.
 */
export function applyEvent(state, event) {
  const message = MESSAGES[event.kind] ?? OF_SIGHT[event.kind];
  if (message) {
    message(state, event);
    return state;
  }
  if (!Number.isInteger(event.seq) || event.seq <= state.seq) return state;
  // Metrics of several events may arrive as one, whose first events may be known already.
  const held = state.seq;
  if ((event.first_seq ?? event.seq) > held + 1) {
    state.gap = true;
    return state;
  }
  state.seq = event.seq;
  state.seqAt = event.at;
  EVENTS[event.kind]?.(state, event, event.seq > state.runSeq, held);
  return state;
}

const EVENTS = {
  metrics(state, event, news, held) {
    const most = bucketsEach(state.series.size);
    const blocks = pointsAfter(event.blocks, held);
    for (const block of blocks) {
      for (const name of Object.keys(block.values))
        takeColumn(seriesNamed(state, name), { seq: event.seq, attempt: event.attempt, block, name }, most);
    }
    const counts = !isHistory(state, event);
    for (const [name, { point }] of newestOf(blocks))
      if ((counts || !state.latest[name]) && isNewer(state, news, name)) state.latest[name] = point;
    state.versions.series += 1;
    const attempt = state.attempts.find(({ number }) => number === event.attempt);
    if (attempt) attempt.last_step = event.step;
    if (!news || !state.run || !counts) return;
    state.run.step = event.step;
    state.run.last_point_at = event.last_point_at;
    state.versions.run += 1;
  },

  system(state, event, news) {
    for (const [name, value] of Object.entries(event.values)) {
      if (value === null) continue;
      const block = { steps: [event.step], times: [event.time], values: { [name]: [value] } };
      takeColumn(seriesNamed(state, name, "time"), { seq: event.seq, attempt: event.attempt, block, name });
      if (isNewer(state, news, name)) state.latest[name] = { step: event.step, time: event.time, value, nonfinite: "" };
    }
    state.versions.series += 1;
  },

  epoch(state, event, news) {
    const { part, best_metric: bestMetric, best_metric_name: bestName, ...own } = fields(event);
    const before = state.epochs.find(
      (known) => known.epoch === own.epoch && known.attempt === own.attempt && known.order === own.order,
    );
    const row =
      part && before
        ? { ...own, values: { ...before.values, ...own.values }, nonfinite: { ...before.nonfinite, ...own.nonfinite } }
        : own;
    state.epochs = state.epochs.filter((known) => known !== before);
    if (row.best) state.epochs = state.epochs.map((known) => (known.best ? { ...known, best: false } : known));
    state.epochs.push(row);
    if (state.epochs.length > MOST_EPOCHS) state.epochs = newestEpochs(state.epochs, MOST_EPOCHS);
    state.epochs.sort(earlierEpochsFirst);
    state.versions.epochs += 1;
    if (!news || !state.run || isHistory(state, event)) return;
    state.run.epoch = event.epoch;
    if (event.best)
      Object.assign(state.run, { best_epoch: event.epoch, best_metric: bestMetric, best_metric_name: bestName });
    state.versions.run += 1;
  },

  /** Drop what was recorded after the step, because the run no longer contains it. */
  rolled_back(state, event, news) {
    const { attempt, step, epoch, best } = event;
    state.epochs = state.epochs.map((row) => ({
      ...row,
      abandoned: row.abandoned || row.step > step,
      best: Boolean(best) && row.attempt === best.attempt && row.epoch === best.epoch && row.order === best.order,
    }));
    state.checkpoints = state.checkpoints.map((known) => ({
      ...known,
      abandoned: known.abandoned || known.step > step,
    }));
    state.versions.epochs += 1;
    state.versions.checkpoints += 1;
    const own = state.attempts.find(({ number }) => number === attempt);
    if (own) own.last_step = step;
    if (!news || !state.run) return;
    Object.assign(state.run, {
      step,
      epoch,
      best_epoch: best?.epoch ?? null,
      best_metric: best?.metric ?? null,
      best_metric_name: best?.metric_name ?? "",
    });
    state.versions.run += 1;
  },

  /** The server computes everything that follows from a state; nothing is derived here. */
  status(state, event, news) {
    noteActivity(state, event);
    noteAttempt(state, event.last_attempt);
    if (!news || !state.run) return;
    const { remark, last_attempt: attempt, ...own } = fields(event);
    Object.assign(state.run, own);
    state.versions.run += 1;
  },

  /** The details of the run contain it. */
  environment(state) {
    state.versions.attempts += 1;
  },

  /** The details of the run have what people wrote. */
  about(state) {
    state.versions.attempts += 1;
  },

  command(state, event, news) {
    noteActivity(state, event);
    const { seq, kind, at, ...command } = event;
    // A command in the snapshot is newer than an event before it; other commands are from the history, before both.
    if (news || !state.greeted.commands.has(command.id)) state.commands.set(command.id, command);
    if (state.commands.size > MOST_COMMANDS) state.commands.delete(state.commands.keys().next().value);
    state.versions.commands += 1;
  },

  knobs(state, event, news) {
    if (!state.run || !(news || state.lacks.has("knobs"))) return;
    const known = event.part ? (state.run.knobs ?? []) : [];
    // A Map keeps the position of an existing name.
    state.run.knobs = [...new Map([...known, ...event.knobs].map((knob) => [knob.name, knob])).values()];
    state.versions.knobs += 1;
  },

  stall(state, event, news) {
    noteActivity(state, event);
    if (!news || !state.run) return;
    state.run.stalled_since = event.stalled ? event.since : null;
    state.run.usual_step_s = event.stalled ? event.usual_step_s : null;
    state.versions.run += 1;
  },

  checkpoint(state, event) {
    noteActivity(state, event);
    const { metrics_left_out: leftOut, ...told } = fields(event);
    const known = state.checkpoints.find(({ id }) => id === told.id);
    const { keep = false, host = null } = known ?? {};
    const checkpoint = { ...told, keep, good: false, host, on_host: true, pushed: false };
    // The details of the run contain the host of the attempt.
    if (!state.checkpoints.some(({ attempt }) => attempt === told.attempt)) state.versions.attempts += 1;
    state.checkpoints = [checkpoint, ...state.checkpoints.filter(({ id }) => id !== checkpoint.id)]
      .sort(newestCheckpointFirst)
      .slice(0, MOST_CHECKPOINTS);
    state.versions.checkpoints += 1;
  },

  checkpoints_removed(state, event) {
    const gone = new Set(event.ids);
    state.checkpoints = state.checkpoints.filter(({ id }) => !gone.has(id));
    state.versions.checkpoints += 1;
  },

  checkpoint_marked(state, event) {
    const { id, keep, good } = event;
    state.checkpoints = state.checkpoints.map((known) => (known.id === id ? { ...known, keep, good } : known));
    state.versions.checkpoints += 1;
  },

  checkpoint_placed(state, event) {
    const { id, on_host, pushed } = event;
    state.checkpoints = state.checkpoints.map((known) => (known.id === id ? { ...known, on_host, pushed } : known));
    state.versions.checkpoints += 1;
  },

  alert(state, event) {
    noteActivity(state, event);
    const alert = fields(event);
    state.alerts = [alert, ...state.alerts.filter(({ id }) => id !== alert.id)]
      .sort(newestAlertFirst)
      .slice(0, MOST_ALERTS);
    state.versions.alerts += 1;
  },

  text(state, event) {
    state.texts.push(event);
    if (state.texts.length > MOST_TEXTS) state.texts.splice(0, state.texts.length - MOST_TEXTS);
    state.versions.texts += 1;
  },

  log(state, event) {
    // The skipped output came before these lines.
    if (event.skipped_bytes)
      state.console.push({ text: "", source: "skipped", level: "warning", at: event.at, skipped: event.skipped_bytes });
    for (const line of event.lines) state.console.push({ ...line, at: event.at });
    if (state.console.length > MOST_CONSOLE_LINES) state.console.splice(0, state.console.length - MOST_CONSOLE_LINES);
    // The number of new lines: the panel renders those.
    state.versions.console += event.lines.length + (event.skipped_bytes ? 1 : 0);
  },

  unfinished(state, event) {
    state.unfinished = event.lines;
    state.versions.unfinished += 1;
  },
};

const OF_SIGHT = {
  sight: sightTaken,

  /** Set the newest points of hidden series, as of an event. */
  newest(state, event) {
    for (const [name, { point }] of newestOf(pointsAfter(event.blocks, 0))) {
      seriesNamed(state, name);
      if ((!isHistory(state, event) || !state.latest[name]) && isNewer(state, event.seq > state.runSeq, name))
        state.latest[name] = point;
    }
    state.versions.series += 1;
  },
};

/** Return whether an event belongs to the history of a replaced attempt, and not to the run. */
function isHistory(state, event) {
  return Boolean(state.run) && event.attempt < state.run.attempt;
}

function seriesNamed(state, name, axis = axisOf(name)) {
  let series = state.series.get(name);
  if (!series) {
    series = emptySeries(name);
    series.axis = axis;
    series.hollow = state.sight !== null;
    state.series.set(name, series);
    state.versions.layout += 1;
  }
  return series;
}

/** Return whether an event has more of a series than the snapshot. */
function isNewer(state, news, name) {
  return news || (state.lacks.has("latest") && !state.greeted.series.has(name));
}

/**
 * Return the newest point, and the number of its event, of each series in blocks. Several blocks may contain one
 * series.
 */
function newestOf(blocks) {
  const newest = new Map();
  for (const block of blocks) {
    const { steps, times, values, seqs } = block;
    const end = steps.length - 1;
    // Within an event the time decides, and between merged events their order, as if they had arrived separately.
    const seq = seqs?.at(-1) ?? 0;
    for (const [name, column] of Object.entries(values)) {
      const known = newest.get(name);
      if (known && (known.seq > seq || (known.seq === seq && known.point.time > times[end]))) continue;
      const odd = nonfiniteOf(block, name).find(([index]) => index === end);
      const point = { step: steps[end], time: times[end], value: column[end], nonfinite: odd ? odd[1] : "" };
      newest.set(name, { seq, point });
    }
  }
  return newest;
}

function noteActivity(state, event) {
  state.activity.push(event);
  if (state.activity.length > MOST_ACTIVITY) state.activity.splice(0, state.activity.length - MOST_ACTIVITY);
  state.versions.activity += 1;
}

function fields(event) {
  const { seq, kind, at, ...own } = event;
  return own;
}
