// The speed of a run and its remaining time, computed from its points. Pure.

import { lowerBound } from "./columns.js";

const WINDOW_S = 60;

/** Return steps per second over the last minute of points, null if it is unknown, or if nothing trains. */
export function stepRate(state) {
  if (state.run?.state !== "running") return null;
  let longest = null;
  for (const series of state.series.values()) {
    // Only the last attempt, because nothing was trained in the time before it.
    const part = series.axis === "step" ? [...series.parts.values()].at(-1) : null;
    if (part && (!longest || part.xs.length > longest.xs.length)) longest = part;
  }
  const end = (longest?.xs.length ?? 0) - 1;
  if (end < 1) return null;
  const begin = Math.min(lowerBound(longest.times, longest.times[end] - WINDOW_S), end - 1);
  const seconds = longest.times[end] - longest.times[begin];
  const steps = longest.xs[end] - longest.xs[begin];
  return seconds > 0 && steps > 0 ? steps / seconds : null;
}

/** Return the completed share from 0 to 1, null if the length of the run is unknown. */
export function shareDone(run) {
  if (run.total_steps) return Math.min(1, run.step / run.total_steps);
  if (run.total_epochs) return Math.min(1, run.epoch / run.total_epochs);
  return null;
}

/** Return the remaining seconds, null if they are unknown. */
export function secondsLeft(run, rate) {
  if (!rate || !run.total_steps || run.state !== "running") return null;
  return Math.max(0, run.total_steps - run.step) / rate;
}

/** Return the epoch in progress, counted from 1. */
export function currentEpoch(run) {
  if (!run.steps_per_epoch) return run.epoch;
  const current = Math.floor(run.step / run.steps_per_epoch) + 1;
  return Math.min(Math.max(run.epoch, current), run.total_epochs ?? Infinity);
}
