// What happened to a run: commands, checkpoints, attempts, events; and with what it was started.

import { element, icon } from "./dom.js";
import { bytes, clock, duration, number } from "./format.js";
import { changes } from "./paint.js";
import { fill, gettext, stateText } from "./text.js";

export class Activity {
  #state;
  #places = {};
  #changed = {};

  constructor(state) {
    this.#state = state;
    for (const id of ["commands", "checkpoints", "attempts", "events", "parameters", "environment"]) {
      this.#places[id] = document.getElementById(id);
      this.#changed[id] = changes();
    }
  }

  paint() {
    const { versions } = this.#state;
    this.#fill("commands", versions.commands, () => [...this.#state.commands.values()].reverse().map(commandEntry));
    this.#fill("checkpoints", versions.checkpoints, () => this.#state.checkpoints.map(checkpointEntry));
    this.#fill("attempts", versions.details, () => this.#state.attempts.toReversed().map(attemptEntry));
    this.#fill("events", versions.activity, () => this.#state.activity.toReversed().map(eventEntry));
    this.#fill("parameters", versions.details, () => table(this.#state.parameters));
    this.#fill("environment", versions.details, () => table(this.#state.environment));
  }

  #fill(id, version, entries) {
    if (!this.#changed[id](version)) return;
    const made = entries();
    if (made.length) this.#places[id].replaceChildren(...made);
  }
}

function entry(picture, title, details, when, extra = {}) {
  return element(
    "div",
    { class: "entry", ...extra },
    element("span", { class: "entry-icon" }, icon(picture)),
    element(
      "div",
      { class: "entry-text" },
      element("div", { class: "entry-title", text: title }),
      ...details.filter(Boolean).map((text) => element("div", { class: "entry-detail", text })),
    ),
    element("time", { class: "entry-time", text: when ? clock(when) : "" }),
  );
}

function commandEntry(command) {
  const outcome = element("span", { class: `outcome outcome-${command.state}`, text: stateText(command.state) });
  const details = [
    command.step !== null && command.step !== undefined ? fill(gettext("at step {x}"), { x: command.step }) : "",
    command.outcome || command.reason,
  ];
  const row = entry(
    "send",
    fill(gettext("{command} by {author}"), { command: stateText(command.command), author: command.author }),
    details,
    command.sent_at,
    { "data-testid": "command-row", "data-state": command.state },
  );
  row.querySelector(".entry-title").append(" ", outcome);
  return row;
}

function checkpointEntry(checkpoint) {
  const details = [
    fill(gettext("step {step} · epoch {epoch} · {size}"), {
      step: checkpoint.step,
      epoch: checkpoint.epoch,
      size: bytes(checkpoint.size_bytes),
    }),
    `sha256 ${checkpoint.sha256.slice(0, 12)}…`,
  ];
  const row = entry("save", checkpoint.name, details, checkpoint.created_at);
  row.querySelector(".entry-detail:last-child").title = checkpoint.sha256;
  return row;
}

function attemptEntry(attempt) {
  const ended = attempt.ended_at
    ? [
        attempt.exit_code !== null && attempt.exit_code !== undefined
          ? fill(gettext("exit code {code}"), { code: attempt.exit_code })
          : "",
        attempt.signal ? fill(gettext("signal {name}"), { name: attempt.signal }) : "",
      ]
        .filter(Boolean)
        .join(" · ")
    : gettext("in progress");
  const seconds =
    attempt.ended_at && attempt.started_at
      ? (Date.parse(attempt.ended_at) - Date.parse(attempt.started_at)) / 1000
      : null;
  const resumed =
    attempt.resumed_from_step !== null && attempt.resumed_from_step !== undefined
      ? fill(gettext("continued from step {x}"), { x: attempt.resumed_from_step })
      : "";
  const details = [
    [ended, seconds === null ? "" : duration(seconds)].filter(Boolean).join(" · "),
    resumed,
    attempt.error,
  ];
  const row = entry(
    attempt.outcome || "running",
    fill(gettext("Attempt {number}"), { number: attempt.number }),
    details,
    attempt.started_at,
    { "data-testid": "attempt-row" },
  );
  if (attempt.outcome)
    row
      .querySelector(".entry-title")
      .append(
        " ",
        element("span", { class: `state state-${attempt.outcome} state-small`, text: stateText(attempt.outcome) }),
      );
  if (attempt.traceback) {
    row
      .querySelector(".entry-text")
      .append(
        element(
          "details",
          { class: "traceback" },
          element("summary", { text: gettext("Traceback") }),
          element("pre", { tabindex: "0", text: attempt.traceback }),
        ),
      );
  }
  return row;
}

function eventEntry(event) {
  if (event.kind === "status") {
    return entry(
      event.state,
      fill(gettext("Run is {state}"), { state: stateText(event.state) }),
      [event.reason],
      event.at,
    );
  }
  if (event.kind === "checkpoint") {
    return entry(
      "save",
      fill(gettext("Checkpoint {name} saved"), { name: event.name ?? "" }),
      [fill(gettext("step {x}"), { x: event.step })],
      event.at,
    );
  }
  if (event.kind === "command") {
    const text = fill(gettext("{command} by {author}: {state}"), {
      command: stateText(event.command),
      author: event.author ?? "",
      state: stateText(event.state),
    });
    return entry("send", text, [event.outcome || event.reason], event.at);
  }
  return entry("activity", event.kind, [], event.at);
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
