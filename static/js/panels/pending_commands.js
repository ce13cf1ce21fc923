// Pending commands in a corner of the page, which show their progress and disappear when they are done.

import { stageList, stageText } from "../commands/stages.js";
import { commandText, isScheduled, UNSETTLED } from "../commands/text.js";
import { element, icon } from "../shared/dom.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";

const SHOWN_COMMANDS = 3;
const APPLIED_MS = 5000;
// Refusals of other people's commands disappear after this time; one's own stay until they are dismissed.
const OTHERS_REFUSED_MS = 15_000;
// After this time, a command that waits for its step is only in the command log.
const WAITING_MS = 8000;

export class PendingCommands {
  #client;
  #place = document.getElementById("tray");
  // By id: when it was first seen here, and when its last state began.
  #seen = new Map();
  #dismissed = new Set();
  #shown = changeDetector();

  constructor(client) {
    this.#client = client;
  }

  paint(now) {
    const cards = this.#client
      .all()
      .filter((command) => this.#isWanted(command, now))
      .slice(-SHOWN_COMMANDS)
      .reverse();
    if (!this.#shown(...cards.map((command) => `${command.id} ${command.state} ${Boolean(command.isBusy)}`))) return;
    this.#place.hidden = !cards.length;
    this.#place.replaceChildren(...cards.map((command) => this.#card(command)));
  }

  #isWanted(command, now) {
    const isOpen = UNSETTLED.has(command.state);
    // The row of a knob shows the progress of one's own change, but cannot cancel it.
    if (command.command === "set_knob" && this.#client.isOwn(command.id) && !command.isBusy) return false;
    let seen = this.#seen.get(command.id);
    if (!seen) {
      // Commands that were over before this page checked are history, and those that wait for a step may do so for
      // hours.
      if ((!isOpen || isScheduled(command)) && !this.#client.isOwn(command.id)) return false;
      seen = { state: "", since: now };
      this.#seen.set(command.id, seen);
    }
    if (seen.state !== command.state) Object.assign(seen, { state: command.state, since: now });
    if (this.#dismissed.has(command.id)) return false;
    const age = now - seen.since;
    if (command.state === "applied") return command.command !== "cancel" && age < APPLIED_MS;
    if (!isOpen) return this.#client.isOwn(command.id) || age < OTHERS_REFUSED_MS;
    return !isScheduled(command) || age < WAITING_MS;
  }

  #card(command) {
    const close = element(
      "button",
      { class: "tray-close", type: "button", "aria-label": gettext("Close") },
      icon("close"),
    );
    close.addEventListener("click", () => {
      this.#dismissed.add(command.id);
      this.paint(performance.now());
    });
    return element(
      "div",
      { class: "tray-card", "data-testid": "command", "data-state": command.state, "data-command": command.command },
      element(
        "div",
        { class: "tray-head" },
        element("strong", { text: commandText(command) }),
        element("span", { class: "tray-author", text: command.author }),
        close,
      ),
      stageList(command),
      element("div", { class: "tray-note", text: stageText(command) }),
      command.isBusy ? this.#cancel(command) : null,
    );
  }

  #cancel(command) {
    const button = element("button", { class: "btn btn-sm", type: "button", text: gettext("Cancel") });
    button.setAttribute("aria-label", fill(gettext("Cancel: {command}"), { command: commandText(command) }));
    button.addEventListener("click", () => this.#client.cancel(command));
    return button;
  }
}
