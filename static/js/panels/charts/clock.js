// The start of the run and the ends of its epochs, which convert stored steps and times to the drawn x.

import { mapping, xAxisFor } from "../../chart/axes.js";
import { changeDetector } from "../../shared/painter.js";
import { countedEpochs } from "../../state/epochs.js";

export class RunClock {
  version = 0;
  #state;
  #view;
  #changed = changeDetector();
  #known = null;

  constructor(state, view) {
    this.#state = state;
    this.#view = view;
  }

  /** Return {start, stepsPerEpoch, epochs}; called many times in each paint. */
  read() {
    const { run, epochs, versions } = this.#state;
    if (this.#changed(versions.epochs, this.#view.attempt, run?.started_at, run?.steps_per_epoch)) {
      this.version += 1;
      this.#known = {
        start: run?.started_at ? Date.parse(run.started_at) / 1000 : null,
        stepsPerEpoch: run?.steps_per_epoch ?? null,
        epochs: countedEpochs(epochs, this.#view.attempt),
      };
    }
    return this.#known;
  }

  /** Return the mapping of the stored x of an axis to the drawn x, and back. */
  mapping(axis) {
    return mapping(xAxisFor(axis, this.#view.over), this.read());
  }
}
