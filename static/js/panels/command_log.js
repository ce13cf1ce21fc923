// The command log: all commands of the run, newest first, with their outcomes.

import { effectText } from "../commands/effect_text.js";
import { commandIcon } from "../commands/icon.js";
import { attemptStarts, isReplaced } from "../commands/interventions.js";
import { canBeCancelled, commandText, conditionsOf, isScheduled } from "../commands/text.js";
import { reasonText } from "../shared/alert_texts.js";
import { element, nodesOf, setText } from "../shared/dom.js";
import { clock } from "../shared/format.js";
import { fill, gettext, stateText } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { renewRow, showInOrder, timeElement } from "./row.js";

const FIRST = 20;

export class CommandLog {
  #state;
  #client;
  #effects;
  #written;
  #place = document.getElementById("commands");
  #nodes = new Map();
  #rest = null;
  #isWhole = false;
  #changed = changeDetector();

  /**
   * `effects.of(command)` returns the effect of an applied change, null while there is none to show; `written` is a
   * `WrittenTexts`.
   */
  constructor(state, client, effects, written) {
    this.#state = state;
    this.#client = client;
    this.#effects = effects;
    this.#written = written;
  }

  paint() {
    const { versions, run } = this.#state;
    const may = this.#client.may("cancel");
    const commands = this.#client.all().toReversed();
    const shown = this.#isWhole ? commands : commands.slice(0, FIRST);
    const effects = this.#effects.update(shown);
    const written = this.#written.update(shown);
    if (!this.#changed(this.#client.version, effects, written, versions.details, may, this.#isWhole)) return;
    if (!shown.length) return;
    const begun = attemptStarts(this.#state.attempts, !run?.recipe);
    const rows = shown.map((command) => this.#rowOf(command, may, isReplaced(command, begun)));
    const ids = new Set(shown.map((command) => command.id));
    for (const id of this.#nodes.keys()) if (!ids.has(id)) this.#nodes.delete(id);
    const rest = commands.length - shown.length;
    showInOrder(this.#place, rest ? [...rows, this.#more(rest)] : rows);
  }

  /** Return the row of a command. It stays the same element, which keeps a reader's selection and the focus. */
  #rowOf(command, may, isGone) {
    const effect = this.#effects.of(command);
    const html = this.#written.of(command);
    const target = this.#client.get(command.arguments?.command)?.command;
    const mark = JSON.stringify([command, effect, html, may, isGone, target]);
    const known = this.#nodes.get(command.id);
    if (known?.mark === mark) return known.node;
    const made = this.#row(command, effect, html, may, isGone);
    if (known) renewRow(known.node, made);
    const node = known?.node ?? made;
    this.#nodes.set(command.id, { mark, node });
    return node;
  }

  #row(command, effect, html, may, isGone) {
    const isSettled = command.state === "applied" && command.step !== null && command.step !== undefined;
    const facts = [
      command.author,
      isSettled ? fill(gettext("step {x}"), { x: command.step }) : "",
      command.ranks > 1 ? fill(gettext("{count} ranks"), { count: command.ranks }) : "",
      command.attempt > 1 ? fill(gettext("attempt {number}"), { number: command.attempt }) : "",
      ...conditionsOf(command, clock),
    ];
    const text = element(
      "div",
      { class: "entry-text" },
      element(
        "div",
        { class: "entry-title" },
        element("span", { class: "command-log-what", text: this.#title(command, html) }),
        element("span", { class: `chip chip-${command.state}`, "data-slot": "state", text: chipText(command) }),
      ),
      html.note ? written(html.note, "") : null,
      detail(facts.filter(Boolean).join(" · ")),
      html.reason
        ? written(html.reason, "entry-detail command-log-reason")
        : detail(quoted(reasonText(command)), "command-log-reason"),
      command.outcome ? detail(command.outcome, command.state === "applied" ? "" : "command-log-outcome") : null,
      effect ? this.#effect(effect) : null,
      isGone ? detail(gettext("A later attempt trained these steps again: it is no longer in the curve.")) : null,
    );
    const row = element(
      "div",
      {
        class: "entry command-log-row",
        id: `command-${command.id}`,
        tabindex: "-1",
        "data-testid": "command-row",
        "data-state": command.state,
        "data-command": command.command,
        "data-id": command.id,
      },
      element("span", { class: "entry-icon" }, commandIcon(command.command)),
      text,
    );
    if (may && canBeCancelled(command)) row.append(this.#cancel(command));
    row.append(timeElement(command.sent_at));
    return row;
  }

  #title(command, html) {
    if (html.note) return gettext("Note");
    const target = command.command === "cancel" ? this.#client.get(command.arguments?.command) : null;
    return target ? fill(gettext("Cancel: {command}"), { command: commandText(target) }) : commandText(command);
  }

  #effect(effect) {
    return element("div", {
      class: `command-log-effect${effect.isClear ? "" : " command-log-unclear"}`,
      "data-testid": "effect",
      title: gettext("Mean ± standard deviation of the points before and after. This is an observation, not a proven effect."),
      text: effectText(effect),
    });
  }

  #cancel(command) {
    const button = element("button", {
      class: "btn btn-sm command-log-cancel",
      type: "button",
      "data-testid": "cancel",
      text: gettext("Cancel"),
    });
    button.setAttribute("aria-label", fill(gettext("Cancel: {command}"), { command: commandText(command) }));
    button.addEventListener("click", () => {
      button.disabled = true;
      this.#client.cancel(command);
    });
    return button;
  }

  /** Return the button that shows all rows; it stays the same element too. */
  #more(count) {
    this.#rest ??= this.#restButton();
    setText(this.#rest, fill(gettext("Show {count} more"), { count }));
    return this.#rest;
  }

  #restButton() {
    const button = element("button", { class: "btn btn-sm command-log-more", type: "button" });
    button.addEventListener("click", () => {
      this.#isWhole = true;
      this.paint();
      this.#place.querySelectorAll(".command-log-row")[FIRST]?.scrollIntoView({ block: "nearest" });
    });
    return button;
  }
}

function detail(text, more = "") {
  return text ? element("div", { class: `entry-detail ${more}`.trim(), text }) : null;
}

function quoted(reason) {
  return reason && fill(gettext("“{reason}”"), { reason });
}

function written(html, more) {
  return element("div", { class: `written ${more}`.trim() }, ...nodesOf(html));
}

/** Return the text of a command's state. A command that waits for its step is delivered, but has another text. */
function chipText(command) {
  return isScheduled(command) ? gettext("scheduled") : stateText(command.state);
}
