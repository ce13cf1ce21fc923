// Reads the effects of interventions from the points of the page, or from finer ones of the portal.

import { changeDetector } from "../shared/painter.js";
import { effectAt, effectSeries, isFullResolution, neighbouringChanges, stepsAround, WINDOW } from "./effect_size.js";
import { emptyColumns } from "../state/columns.js";
import { lineOf, seriesFromCharts } from "../state/series.js";
import { attemptStarts, isReplaced } from "./interventions.js";

// A growing effect is fetched again at the earliest after this time.
const FETCH_MS = 10_000;
const FETCHED_BUCKETS = 4000;

export class EffectReader {
  #state;
  #fetchRange;
  #onChange;
  // By command id: {effect, mark, fetchedAt, isFetching}.
  #known = new Map();
  #version = 0;
  #changed = changeDetector();

  /** `fetchRange(names, from, to, buckets, by)` resolves to charts by name. */
  constructor(state, fetchRange, onChange) {
    this.#state = state;
    this.#fetchRange = fetchRange;
    this.#onChange = onChange;
  }

  of(command) {
    return this.#known.get(command.id)?.effect ?? null;
  }

  /** Update the effects of `commands`; return a number that grows with every change. */
  update(commands) {
    const { versions, series, run, attempts } = this.#state;
    const mine = commands.filter(
      ({ command, state, step }) =>
        command === "set_knob" && state === "applied" && step !== null && step !== undefined,
    );
    if (!mine.length || !this.#changed(versions.series, versions.commands, versions.details, mine.length))
      return this.#version;
    const name = effectSeries(series);
    if (!series.has(name)) return this.#version;
    const points = lineOf(series.get(name));
    const begun = attemptStarts(attempts, !run?.recipe);
    const changesMade = [...this.#state.commands.values()].filter(
      (command) => command.command === "set_knob" && command.state === "applied" && !isReplaced(command, begun),
    );
    for (const command of mine) {
      const known = this.#known.get(command.id) ?? { effect: null, fetchedAt: -Infinity };
      if (known.effect?.isWhole && known.effect.name === name) continue;
      if (isReplaced(command, begun)) continue;
      this.#known.set(command.id, known);
      const bounds = neighbouringChanges(changesMade, command.step);
      if (isFullResolution(points, command.step))
        this.#take(known, name, effectAt(points.xs, points.means, command.step, { ...bounds, odd: points.odd }));
      else this.#fetch(known, name, command.step, bounds, points);
    }
    return this.#version;
  }

  #take(known, name, effect) {
    const found = effect && { ...effect, name };
    if (JSON.stringify(found) === JSON.stringify(known.effect)) return;
    known.effect = found;
    this.#version += 1;
  }

  async #fetch(known, name, step, bounds, points) {
    if (known.isFetching || performance.now() - known.fetchedAt < FETCH_MS) return;
    known.isFetching = true;
    const around = stepsAround(points);
    try {
      const found = (await this.#fetchRange([name], step - around, step + around, FETCHED_BUCKETS, "step"))[name];
      const line = found ? lineOf(seriesFromCharts(name, found)) : emptyColumns("step");
      const effect = effectAt(line.xs, line.means, step, { ...bounds, odd: line.odd });
      // Points far behind the window will not arrive any more.
      if (effect && points.xs.at(-1) > step + 2 * around + WINDOW) effect.isWhole = true;
      this.#take(known, name, effect);
      this.#onChange();
    } catch {
      // the effect stays unknown until the next update
    }
    known.fetchedAt = performance.now();
    known.isFetching = false;
  }
}
