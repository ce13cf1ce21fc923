// Applies messages without a number to the page's state: the snapshot, the loaded history, heartbeats.

import { earlierEpochsFirst } from "./epochs.js";
import { seriesFromCharts } from "./series.js";

export const MOST_CONSOLE_LINES = 2000;
export const MOST_ACTIVITY = 200;
export const MOST_TEXTS = 50;
export const MOST_ALERTS = 200;
// As many as the history has.
const MOST_ATTEMPTS = 200;

// A snapshot says that heartbeats are missing, but not since when: for at least this many seconds.
const SILENT_S = { unreachable: 6, silent: 12 };

export const MESSAGES = {
  hello(state, event) {
    const lacks = new Set(event.incomplete ?? []);
    const known = state.run;
    state.run = { ...event.run };
    // Fields that do not fit into a frame stay as in the history; the following events update them.
    if (lacks.has("knobs")) state.run.knobs = known?.knobs ?? state.knobs;
    // They are stored in `state.commands`, `state.attempts` and `state.alerts`.
    delete state.run.commands;
    delete state.run.last_attempt;
    delete state.run.lasting_alerts;
    noteAttempt(state, event.run.last_attempt);
    state.lacks = lacks;
    state.greeted = {
      series: new Set(Object.keys(event.latest)),
      commands: new Set((event.run.commands ?? []).map((command) => command.id)),
    };
    state.runSeq = event.seq;
    state.latest = lacks.has("latest") ? { ...state.latest, ...event.latest } : { ...event.latest };
    state.viewer = event.viewer;
    state.life = event.life;
    state.silentS = SILENT_S[event.life] ?? 0;
    state.link = event.link;
    state.watchers = event.watchers ?? null;
    state.gap = false;
    // Requests over another connection will not be answered: this one begins with all series.
    state.looks = 0;
    for (const command of event.run.commands ?? []) state.commands.set(command.id, command);
    for (const part of ["run", "link", "commands", "knobs", "series"]) state.versions[part] += 1;
  },

  /** Replace everything before `seq` by the loaded history. */
  history(state, event) {
    state.seq = event.seq;
    state.seqAt = event.seq_at ?? "";
    state.gap = false;
    state.sight = null;
    const newest = (state.series = new Map());
    for (const [name, charts] of Object.entries(event.series)) {
      const series = seriesFromCharts(name, charts);
      series.version = state.versions.series + 1;
      newest.set(name, series);
      noteNewest(state, name, series.axis, Object.values(charts.attempts).at(-1));
    }
    state.epochs = [...event.epochs].sort(earlierEpochsFirst);
    state.console = [...event.console].slice(-MOST_CONSOLE_LINES);
    state.unfinished = event.unfinished ?? [];
    state.activity = [...event.events].sort((left, right) => left.seq - right.seq).slice(-MOST_ACTIVITY);
    state.texts = [...(event.texts ?? [])].sort((left, right) => left.seq - right.seq).slice(-MOST_TEXTS);
    state.commands = new Map(event.commands.map((command) => [command.id, command]));
    state.attempts = event.attempts;
    state.checkpoints = [...event.checkpoints].sort(newestCheckpointFirst);
    state.alerts = [...(event.alerts ?? [])].sort(newestAlertFirst);
    state.knobs = event.knobs ?? [];
    // A greeting may omit them, and values from before this history are older.
    if (state.run) state.run.knobs = state.knobs;
    MESSAGES.details(state, event);
    for (const part of Object.keys(state.versions)) state.versions[part] += 1;
  },

  /**
   * Apply the data that no event carries: environment, parameters, tracebacks, hosts of checkpoints, and texts by
   * members. For the rest, later events are newer.
   */
  details(state, event) {
    const tracebacks = new Map(event.attempts.map(({ number, traceback }) => [number, traceback]));
    state.attempts = state.attempts.map((attempt) => {
      const traceback = tracebacks.get(attempt.number);
      return traceback === undefined ? attempt : { ...attempt, traceback };
    });
    const hosts = new Map(event.checkpoints.map(({ id, host }) => [id, host]));
    state.checkpoints = state.checkpoints.map((known) => ({ ...known, host: hosts.get(known.id) ?? known.host }));
    state.versions.checkpoints += 1;
    state.environment = event.environment ?? {};
    state.parameters = event.parameters ?? {};
    state.about = event.about ?? null;
    if (state.about && state.run) state.run.name = state.about.name;
    state.versions.details += 1;
  },

  /** A history must be loaded: the current data stays until it arrives. */
  resync() {},

  life(state, event) {
    state.life = event.life;
    state.silentS = event.silent_s;
    state.versions.run += 1;
  },

  link(state, event) {
    state.link = event.link;
    state.versions.link += 1;
  },

  watchers(state, { count, guests, names }) {
    state.watchers = { count, guests, names };
    state.versions.link += 1;
  },

  pong() {},

  error(state, event) {
    state.lastError = event;
    state.versions.errors += 1;
  },
};

/** Set the newest point of a series, unless a newer one is known. */
function noteNewest(state, name, axis, chart) {
  if (!chart) return;
  const end = chart.times.length - 1;
  if (state.latest[name]?.time >= chart.times[end]) return;
  const odd = chart.nonfinite.find(([index]) => index === end);
  state.latest[name] = {
    step: chart.steps[end],
    time: chart.times[end],
    // For merged points, the history has the mean.
    value: (chart.raw ? chart.values : chart.mean)[end],
    nonfinite: odd ? odd[1] : "",
  };
}

/** Return the fields of an attempt, null for a run without one; a traceback from the details is kept. */
export function noteAttempt(state, attempt) {
  if (!attempt) return;
  const known = state.attempts.find(({ number }) => number === attempt.number);
  if (known && Object.entries(attempt).every(([name, value]) => known[name] === value)) return;
  state.attempts = [...state.attempts.filter((other) => other !== known), { ...known, ...attempt }]
    .sort((left, right) => left.number - right.number)
    .slice(-MOST_ATTEMPTS);
  state.versions.attempts += 1;
}

export function newestAlertFirst(left, right) {
  return right.id - left.id;
}

export function newestCheckpointFirst(left, right) {
  return right.created_at.localeCompare(left.created_at) || right.id - left.id;
}
