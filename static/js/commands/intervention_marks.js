// The marks of interventions on all charts: which, and where over what is drawn.

import { changes } from "../shared/painter.js";
import { beginnings, interventionsOf, isReplaced, timeOf } from "./interventions.js";

export class Marks {
  #state;
  #view;
  #list = [];
  #changed = changes();

  constructor(state, view) {
    this.#state = state;
    this.#view = view;
    this.version = 0;
  }

  /** Look at what was done since; call once before charts are painted. */
  refresh() {
    const { versions, commands, attempts, run } = this.#state;
    if (!this.#changed(versions.commands, versions.details, this.#view.marks, run?.recipe)) return;
    const begun = beginnings(attempts, !run?.recipe);
    this.#list = this.#view.marks
      ? interventionsOf(commands.values()).map((command) => ({ command, isGone: isReplaced(command, begun) }))
      : [];
    this.version += 1;
  }

  /** Return [{x, command}] in the order of x, by the mapping {by, forward} of a chart; `isMachine`: samples keep all. */
  over({ by, forward }, isMachine) {
    return this.#list
      .filter(({ isGone }) => isMachine || !isGone)
      .map(({ command }) => ({ x: forward(by === "time" ? timeOf(command) : command.step), command }))
      .sort((left, right) => left.x - right.x);
  }
}
