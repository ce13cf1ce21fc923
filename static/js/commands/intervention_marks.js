// The marks of interventions on all charts, and of alerts on the charts of their series, with their positions on x.

import { changeDetector } from "../shared/painter.js";
import { alertMark, appliedAt, attemptStarts, interventionsOf, isReplaced } from "./interventions.js";

export class InterventionMarks {
  #state;
  #view;
  #list = [];
  #linked;
  #changed = changeDetector();

  /** `linked` is the mark of the step in the page's address, or null. */
  constructor(state, view, linked = null) {
    this.#state = state;
    this.#view = view;
    this.#linked = linked;
    this.version = 0;
  }

  /** Update the marks; call once before charts are painted. */
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
   * Return [{x, command}] ordered by x, with the mapping {by, forward} of a chart; charts of machine samples show all.
   * `names` are the drawn series: alerts of other series are left out.
   */
  over({ by, forward }, isMachine, names = []) {
    return this.#list
      .filter(({ command }) => command.command !== "alert" || names.includes(command.series))
      // The time of a linked step is unknown.
      .filter(({ command }) => command.command !== "linked_step" || by !== "time")
      .filter(({ isGone }) => isMachine || !isGone)
      .map(({ command }) => ({ x: forward(by === "time" ? appliedAt(command) : command.step), command }))
      .sort((left, right) => left.x - right.x);
  }
}
