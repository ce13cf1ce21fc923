// Values that were recorded once per epoch, as lines that can be added to charts over steps.

import { fill, gettext } from "../../shared/i18n.js";
import { ascending, columnOf, lowerBound } from "../../state/columns.js";
import { epochCurve, epochNames, newestOfEpochs } from "../../state/epochs.js";

// Names of series cannot begin like this.
const PER_EPOCH = "/epochs/";

/** Return the names, as lines of a chart, of the values that the epochs of a run have. */
export function epochLineNames(epochs) {
  return epochNames(epochs).map((name) => PER_EPOCH + name);
}

export function isPerEpoch(name) {
  return name.startsWith(PER_EPOCH);
}

/** Return the name under which the epochs have the value of a line. */
export function recordedName(name) {
  return name.slice(PER_EPOCH.length);
}

/** Return the text for the name of a series or of a value per epoch. */
export function addedName(name) {
  return isPerEpoch(name) ? fill(gettext("{name}, per epoch"), { name: recordedName(name) }) : name;
}

/**
 * Return what a chart reads of the values per epoch that `name` stands for: {version(), latest(), extent(), read()}. An
 * epoch is drawn at its last step. `beside()` returns the columns of the chart's own series, which know when that was.
 */
export function epochReader(name, state, view, clock, beside) {
  const value = recordedName(name);
  const xOf = ({ step }) => {
    const { by, forward } = clock.mapping("step");
    if (by !== "time") return forward(step);
    const columns = beside();
    const times = columns ? columnOf(columns, "time") : [];
    return times.length ? forward(times[Math.min(lowerBound(columns.xs, step), times.length - 1)]) : null;
  };
  const read = () => {
    const found = epochCurve(state.epochs, view.attempt, value, xOf);
    return { ...sorted(found), earlier: found.earlier.map(sorted), odd: found.odd.filter(({ x }) => x !== null) };
  };
  return {
    version: () => `${state.versions.epochs} ${clock.version}`,
    latest: () => newestOfEpochs(state.epochs, view.attempt, value),
    extent: () => {
      const { xs } = read();
      return xs.length ? [xs[0], xs.at(-1)] : null;
    },
    read,
  };
}

/** Over time, an epoch has no place before a point of the chart's own series has arrived. */
function sorted(curve) {
  return curve.xs.includes(null) ? { ...curve, xs: [], means: [], mins: [], maxs: [], points: 0 } : { ...curve, xs: ascending(curve.xs) };
}
