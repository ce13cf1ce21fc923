// Stopping a run: button, confirmation, and how the command moves from sent to applied.

import { element, icon, toast } from "./dom.js";
import { changes } from "./paint.js";
import { openSheet, shortcut } from "./shortcuts.js";
import { newId } from "./socket.js";
import { fill, gettext, stateText } from "./text.js";

const STOPPABLE = new Set(["running", "paused"]);
const UNSETTLED = new Set(["sent", "delivered"]);
const STAGES = ["sent", "delivered", "applied"];

export class StopControl {
  #state;
  #socket;
  #onChange;
  #button = document.getElementById("stop");
  #sheet = document.getElementById("stop-dialog");
  #place = document.getElementById("ask");
  #own = null;
  #refusal = null;
  #seen = new Set();
  #changed = changes();
  #errorChanged = changes();

  constructor(state, socket, onChange) {
    this.#state = state;
    this.#socket = socket;
    this.#onChange = onChange;
    if (!this.#button) return;
    this.#button.addEventListener("click", () => openSheet(this.#sheet));
    this.#sheet.addEventListener("close", () => {
      if (this.#sheet.returnValue === "stop") this.#ask();
      this.#sheet.returnValue = "";
    });
    shortcut("s", () => {
      if (!this.#button.hidden && !this.#button.disabled) openSheet(this.#sheet);
    });
  }

  #ask() {
    const reason = document.getElementById("stop-reason");
    this.#own = { id: newId(), command: "stop", reason: reason.value.trim() };
    this.#refusal = null;
    reason.value = "";
    this.#socket.command(this.#own);
    this.#onChange();
  }

  paint() {
    const state = this.#state;
    if (!state.run) return;
    this.#hearRefusal();
    if (!this.#changed(state.versions.commands, state.versions.run, state.viewer, this.#own, this.#refusal)) return;
    const command = this.#current();
    const settled = this.#own && state.commands.get(this.#own.id);
    if (settled) this.#socket.settle(this.#own.id);
    if (this.#button) {
      const may = state.viewer?.may.includes("stop") && STOPPABLE.has(state.run.state);
      this.#button.hidden = !may;
      this.#button.disabled = Boolean(command && (command.state === "sending" || UNSETTLED.has(command.state)));
    }
    this.#show(command);
  }

  /** The stop to tell of: one's own, or another person's that is under way or was watched. */
  #current() {
    const commands = [...this.#state.commands.values()].filter((command) => command.command === "stop");
    for (const command of commands) if (UNSETTLED.has(command.state)) this.#seen.add(command.id);
    if (this.#own) {
      const known = this.#state.commands.get(this.#own.id);
      return (
        known ?? { ...this.#own, state: this.#refusal ? "refused" : "sending", reason: this.#refusal ?? "", author: "" }
      );
    }
    return commands.findLast((command) => this.#seen.has(command.id)) ?? null;
  }

  #hearRefusal() {
    const { lastError, versions } = this.#state;
    if (!this.#errorChanged(versions.errors) || !lastError) return;
    if (this.#own && lastError.command_id === this.#own.id) {
      this.#refusal = lastError.error;
      this.#socket.settle(this.#own.id);
    } else {
      toast(lastError.error, "danger");
    }
  }

  #show(command) {
    this.#place.hidden = !command;
    if (!command) return;
    this.#place.dataset.state = command.state;
    const author = command.author
      ? fill(gettext("Stop, asked by {author}"), { author: command.author })
      : gettext("Stop");
    const steps = element("ol", { class: "stages" });
    const failed = command.state === "refused" || command.state === "expired";
    const stages = failed ? ["sent", command.state] : STAGES;
    const reached = command.state === "sending" ? -1 : stages.indexOf(command.state);
    stages.forEach((stage, index) => {
      const done = index <= reached;
      const stageClass = `stage ${done ? "stage-done" : "stage-open"}${done && failed && index === reached ? " stage-bad" : ""}`;
      const picture = failed && index === reached ? "failed" : done ? "finished" : "created";
      steps.append(
        element(
          "li",
          { class: stageClass, "data-stage": stage, "aria-current": index === reached ? "step" : null },
          icon(picture),
          element("span", { text: stateText(stage) }),
        ),
      );
    });
    this.#place.replaceChildren(
      element("strong", { text: author }),
      steps,
      element("span", { class: "ask-note", text: noteOf(command) }),
    );
  }
}

function noteOf(command) {
  const step =
    command.step !== null && command.step !== undefined ? fill(gettext("at step {x}"), { x: command.step }) : "";
  const notes = {
    sending: gettext("on its way to the portal …"),
    sent: gettext("stored; waiting for the training host"),
    delivered: gettext("the training has it; it acts at the next step"),
    applied: step,
  };
  return [
    notes[command.state] ?? "",
    command.state === "applied" || command.state === "refused" || command.state === "expired" ? command.outcome || command.reason : "",
  ]
    .filter(Boolean)
    .join(" · ");
}
