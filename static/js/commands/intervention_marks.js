// The marks of interventions on all charts: which, and where over what is drawn.

import { changeDetector } from "../shared/painter.js";
import { appliedAt, attemptStarts, interventionsOf, isReplaced } from "./interventions.js";

export class InterventionMarks {
  #state;
  #view;
  #list = [];
  #changed = changeDetector();

  constructor(state, view) {
    this.#state = state;
    this.#view = view;
    this.version = 0;
  }

  /** Look at what was done since; call once before charts are painted. */
  refresh() {
    const { versions, commands, attempts, run } = this.#state;
    if (!this.#changed(versions.commands, versions.details, this.#view.marks, run?.recipe)) return;
    const begun = attemptStarts(attempts, !run?.recipe);
    this.#list = this.#view.marks
      ? interventionsOf(commands.values()).map((command) => ({ command, isGone: isReplaced(command, begun) }))
      : [];
    this.version += 1;
  }

  /** Return [{x, command}] in the order of x, by the mapping {by, forward} of a chart; one of samples keeps all. */
  over({ by, forward }, isMachine) {
    return this.#list
      .filter(({ isGone }) => isMachine || !isGone)
      .map(({ command }) => ({ x: forward(by === "time" ? appliedAt(command) : command.step), command }))
      .sort((left, right) => left.x - right.x);
  }
}
