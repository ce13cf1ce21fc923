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
    const { marks, attempt: last } = this.#view;
    if (!this.#changed(versions.commands, versions.attempts, versions.details, marks, last, run?.recipe)) return;
    const begun = attemptStarts(
      attempts.filter(({ number }) => number <= last),
      !run?.recipe,
    );
    const shown = marks ? interventionsOf(commands.values()) : [];
    this.#list = shown
      .filter(({ attempt }) => (attempt ?? 0) <= last)
      .map((command) => ({ command, isGone: isReplaced(command, begun) }));
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
