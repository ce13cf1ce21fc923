// The marks of interventions on all charts, and of alerts on the charts of their series, with their positions on the x
// axis.

import { changeDetector } from "../shared/painter.js";
import { alertMark, appliedAt, attemptStarts, interventionsOf, isReplaced } from "./interventions.js";

export class InterventionMarks {
  #state;
  #view;
  #list = [];
  #linked;
  #changed = changeDetector();

  /** `linked` is the mark of a step that the page was opened for, or null. */
  constructor(state, view, linked = null) {
    this.#state = state;
    this.#view = view;
    this.#linked = linked;
    this.version = 0;
  }

  /** Look at what was done since; call once before charts are painted. */
  refresh() {
    const { versions, commands, attempts, run, alerts } = this.#state;
    const { marks, attempt: last } = this.#view;
    const { commands: asked, alerts: found, attempts: tried, details } = versions;
    if (!this.#changed(asked, found, tried, details, marks, last, run?.recipe)) return;
    const begun = attemptStarts(
      attempts.filter(({ number }) => number <= last),
      !run?.recipe,
    );
    const begins = alerts.filter(({ step, series }) => step !== null && series).map(alertMark);
    const shown = marks ? [...interventionsOf(commands.values()), ...begins, this.#linked].filter(Boolean) : [];
    this.#list = shown
      .filter(({ attempt }) => (attempt ?? 0) <= last)
      .map((command) => ({ command, isGone: isReplaced(command, begun) }));
    this.version += 1;
  }

  /**
   * Return [{x, command}] in the order of x, by the mapping {by, forward} of a chart; one of samples keeps all. `names`
   * are the series that it draws: alerts of others are left out.
   */
  over({ by, forward }, isMachine, names = []) {
    return this.#list
      .filter(({ command }) => command.command !== "alert" || names.includes(command.series))
      // Nobody knows when the step of a link was.
      .filter(({ command }) => command.command !== "linked_step" || by !== "time")
      .filter(({ isGone }) => isMachine || !isGone)
      .map(({ command }) => ({ x: forward(by === "time" ? appliedAt(command) : command.step), command }))
      .sort((left, right) => left.x - right.x);
  }
}
