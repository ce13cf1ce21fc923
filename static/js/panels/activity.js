// The activity of a run: attempts and events; and its configuration.

import { newestOfCommands, withoutRepeatedStates } from "../commands/stages.js";
import { commandText } from "../commands/text.js";
import { actionText, afterRollBackText, alertTexts, reasonText } from "../shared/alert_texts.js";
import { element, setText } from "../shared/dom.js";
import { number, stepTime } from "../shared/format.js";
import { fill, gettext, stateText } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { attemptRow, restartsText } from "./attempts.js";
import { panelRow } from "./row.js";

export class Activity {
  #state;
  #places = {};
  #changed = {};

  constructor(state) {
    this.#state = state;
    for (const id of ["restarts", "attempts", "events", "parameters", "environment"]) {
      this.#places[id] = document.getElementById(id);
      this.#changed[id] = changeDetector();
    }
  }

  paint() {
    const { versions } = this.#state;
    const restarts = restartsText(this.#state.run);
    if (this.#changed.restarts(restarts)) setText(this.#places.restarts, restarts);
    this.#fill("attempts", versions.attempts + versions.details, () =>
      this.#state.attempts.toReversed().map(attemptRow),
    );
    this.#fill("events", versions.activity, () =>
      withoutRepeatedStates(newestOfCommands(this.#state.activity)).toReversed().map(eventEntry),
    );
    this.#fill("parameters", versions.details, () => table(this.#state.parameters));
    this.#fill("environment", versions.details, () => table(this.#state.environment));
  }

  #fill(id, version, entries) {
    if (!this.#changed[id](version)) return;
    const made = entries();
    if (made.length) this.#places[id].replaceChildren(...made);
  }
}

function eventEntry(event) {
  if (event.kind === "status") {
    return panelRow(
      event.state,
      fill(gettext("Run is {state}"), { state: stateText(event.state) }),
      [reasonText(event), event.remark],
      event.at,
    );
  }
  if (event.kind === "checkpoint") {
    return panelRow(
      "save",
      fill(gettext("Checkpoint {name} saved"), { name: event.name ?? "" }),
      [fill(gettext("step {x}"), { x: event.step })],
      event.at,
    );
  }
  if (event.kind === "stall") {
    const usual = event.usual_step_s
      ? fill(gettext("a step usually takes {time}"), { time: stepTime(event.usual_step_s) })
      : "";
    return event.stalled
      ? panelRow("alert", gettext("No step for far longer than usual"), [usual], event.at)
      : panelRow("running", gettext("Steps again"), [], event.at);
  }
  if (event.kind === "alert") {
    return panelRow(
      event.state === "cleared" ? "activity" : "alert",
      fill(gettext("Alert: {title} ({state})"), { title: alertTexts(event).title, state: stateText(event.state) }),
      [event.series, alertTexts(event).text, actionText(event), afterRollBackText(event)],
      event.at,
    );
  }
  if (event.kind === "command") {
    const text = fill(gettext("{command} by {author}: {state}"), {
      command: commandText(event),
      author: event.author ?? "",
      state: stateText(event.state),
    });
    return panelRow("send", text, [event.outcome || reasonText(event)], event.at);
  }
  return panelRow("activity", event.kind, [], event.at);
}

/** Return one table of names and values; nested objects become dotted names. */
function table(values) {
  const rows = flatten(values);
  if (!rows.length) return [];
  const body = element("tbody");
  for (const [name, value] of rows)
    body.append(element("tr", {}, element("th", { scope: "row", text: name }), element("td", { text: value })));
  return [element("table", { class: "table facts" }, body)];
}

function flatten(values, prefix = "") {
  return Object.entries(values ?? {}).flatMap(([name, value]) => {
    const key = prefix ? `${prefix}.${name}` : name;
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return flatten(value, key);
    return [[key, plain(value)]];
  });
}

function plain(value) {
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (typeof value === "number") return number(value);
  return value === null || value === "" ? "–" : String(value);
}
