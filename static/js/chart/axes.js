// The x axis of a chart, and the conversion between its unit and the stored ones (steps, seconds since 1970). Pure.

import { lowerBound } from "../state/columns.js";

const same = (x) => x;

/**
 * Return the unit of x. Training series follow the choice; samples of the machine only have times. Samples of several
 * machines ("machine") are aligned by the time since each run's start, unless the wall clock is chosen.
 */
export function xAxisFor(axis, choice) {
  if (axis === "epoch") return "epochs";
  if (axis === "machine") return choice === "time" ? "time" : "relative";
  if (axis === "time") return choice === "relative" ? "relative" : "time";
  return choice;
}

/**
 * Return {by, forward, back}: `by` is the stored column ("step" or "time") for the unit `x`.
 *
 * `clock` is {start, stepsPerEpoch, epochs}: the start of the run in seconds since 1970, and the ends of epochs in
 * steps, either from the number of steps per epoch, or from the rows {epoch, step} of complete epochs. Without either,
 * epochs cannot be drawn, and steps are used.
 */
export function mapping(x, clock) {
  if (x === "relative" && clock.start !== null) {
    return { by: "time", forward: (time) => time - clock.start, back: (elapsed) => elapsed + clock.start };
  }
  if (x === "time" || x === "relative") return { by: "time", forward: same, back: same };
  if (x === "epoch" && clock.stepsPerEpoch) {
    const steps = clock.stepsPerEpoch;
    return { by: "step", forward: (step) => step / steps, back: (epoch) => epoch * steps };
  }
  if (x === "epoch" && clock.epochs.length) return byEpochEnds(clock.epochs);
  return { by: "step", forward: same, back: same };
}

/** Return whether steps can be converted to epochs. */
export function knowsEpochs(clock) {
  return Boolean(clock.stepsPerEpoch || clock.epochs.length);
}

function byEpochEnds(rows) {
  const steps = [0];
  const epochs = [Math.min(0, rows[0].epoch - 1)];
  for (const row of rows) {
    if (row.step <= steps.at(-1) || row.epoch <= epochs.at(-1)) continue;
    steps.push(row.step);
    epochs.push(row.epoch);
  }
  return {
    by: "step",
    forward: (step) => interpolated(step, steps, epochs),
    back: (epoch) => interpolated(epoch, epochs, steps),
  };
}

/** Return the line through the two neighbouring points, extended beyond both ends. */
function interpolated(x, from, to) {
  if (from.length < 2 || !Number.isFinite(x)) return x;
  const right = Math.max(1, Math.min(from.length - 1, lowerBound(from, x)));
  const share = (x - from[right - 1]) / (from[right] - from[right - 1]);
  return to[right - 1] + share * (to[right] - to[right - 1]);
}
