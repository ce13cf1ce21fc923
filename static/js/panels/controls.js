// Buttons and keys that steer the run, and the sheets that ask what they need to know first.

import { UNSETTLED } from "../commands/text.js";
import { element, setText } from "../shared/dom.js";
import { clock } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { openSheet, shortcut } from "../shared/shortcuts.js";
import { currentEpoch } from "../state/progress.js";

const KEYS = { s: "stop", c: "save_checkpoint", e: "evaluate", n: "note", b: "roll_back", x: "extend", k: "end_process" };
// While one of these is on its way a second one would only be refused.
const ONE_AT_A_TIME = new Set(["stop", "end_process", "pause", "resume", "evaluate", "roll_back"]);
const OPPOSITES = { pause: "resume", resume: "pause" };

export class Controls {
  #state;
  #client;
  #commands;
  #buttons = new Map();
  // The bar of buttons, and those in it that belong together: nothing is drawn of one without a button.
  #groups = [...document.querySelectorAll("#controls, #controls .btn-group")];
  #sheets = new Map();
  // The button that had the focus when it went away or was switched off.
  #held = null;
  #changed = changeDetector();

  /** `commands`: by kind, what the server says of each: in which states it is legal. */
  constructor(state, client, commands) {
    this.#state = state;
    this.#client = client;
    this.#commands = commands;
    for (const button of document.querySelectorAll("[data-ask]")) {
      this.#buttons.set(button, button.dataset.ask);
      button.addEventListener("click", () => this.#press(button.dataset.ask, "later" in button.dataset));
    }
    for (const sheet of document.querySelectorAll("dialog[data-command]")) this.#prepare(sheet);
    for (const [key, kind] of Object.entries(KEYS)) shortcut(key, () => this.#key(kind));
    shortcut("p", () => this.#key(state.run?.state === "paused" ? "resume" : "pause"));
    shortcut("P", () => this.#key("pause", true));
  }

  paint() {
    const { run, viewer, versions } = this.#state;
    if (!run || !this.#changed(versions.run, viewer, this.#client.version)) return;
    const busy = new Set(
      this.#client
        .all()
        .filter((command) => UNSETTLED.has(command.state) && !command.at_step && !command.at_epoch)
        .map((command) => command.command),
    );
    if (this.#buttons.has(document.activeElement)) this.#held = document.activeElement;
    for (const [button, kind] of this.#buttons) {
      button.hidden = !this.#isOffered(kind);
      button.disabled = ONE_AT_A_TIME.has(kind) && busy.has(kind);
    }
    for (const group of this.#groups)
      group.hidden = [...group.querySelectorAll("[data-ask]")].every((one) => one.hidden);
    document.documentElement.toggleAttribute("data-steers", this.#groups.some((group) => !group.hidden));
    this.#keepFocus();
  }

  /** A button that went away, or waits for its answer, must not leave the keyboard nowhere: its successor has it. */
  #keepFocus() {
    if (!this.#held || (document.activeElement !== document.body && document.activeElement !== this.#held)) {
      this.#held = null;
      return;
    }
    const kind = this.#buttons.get(this.#held);
    const opposites = [...this.#buttons.keys()].filter((one) => this.#buttons.get(one) === OPPOSITES[kind]);
    [this.#held, ...opposites].find((one) => !one.hidden && !one.disabled)?.focus();
  }

  #isOffered(kind) {
    const { state, offers } = this.#state.run;
    if (!this.#client.may(kind) || !this.#commands[kind]?.legal_in.includes(state)) return false;
    if (this.#commands[kind].is_optional && !offers.includes(kind)) return false;
    if (kind === "pause") return state !== "paused";
    return kind === "resume" ? state === "paused" : true;
  }

  #key(kind, later = false) {
    const button = [...this.#buttons].find(
      ([one, own]) => own === kind && "later" in one.dataset === later && !one.hidden && !one.disabled,
    );
    if (button) this.#press(kind, later);
  }

  #press(kind, later) {
    const sheet = this.#sheets.get(kind);
    if (!sheet || (kind === "pause" && !later)) this.#client.send(kind);
    else {
      this.#fillIn(sheet, kind);
      openSheet(sheet);
    }
  }

  #prepare(sheet) {
    const kind = sheet.dataset.command;
    const form = sheet.querySelector("form");
    this.#sheets.set(kind, sheet);
    form.addEventListener("input", () => this.#showChoice(form));
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.querySelector("[value=send]").click();
    });
    sheet.addEventListener("close", () => {
      if (sheet.returnValue === "send") this.#client.send(kind, ...asked(form));
      if (sheet.returnValue === "halve") this.#client.send(kind, ...withHalf(asked(form), this.#rate()));
      sheet.returnValue = "";
      form.reset();
      this.#showChoice(form);
    });
  }

  /** Say in the sheet what the run is at, since what is asked is measured by it. */
  #fillIn(sheet, kind) {
    const { run, checkpoints } = this.#state;
    const form = sheet.querySelector("form");
    const last = checkpoints[0];
    const newest = sheet.querySelector("[data-slot=newest]");
    if (newest) {
      const text = gettext("Newest checkpoint: {name}, step {step}, {time}");
      setText(
        newest,
        last
          ? fill(text, { name: last.name, step: last.step, time: clock(last.created_at) })
          : gettext("There is no checkpoint yet."),
      );
    }
    if (kind === "roll_back") this.#offerCheckpoints(sheet);
    if (kind === "stop") this.#askForCheckpoint(sheet, run.offers.includes("save_checkpoint"));
    if (form.elements.when) {
      form.elements.when.querySelector("[value=epoch]").disabled = !run.total_epochs && !run.steps_per_epoch;
      form.dataset.step = run.step;
      form.dataset.epoch = Math.max(1, currentEpoch(run));
    }
    if (kind === "extend") {
      const now = sheet.querySelector("[data-slot=planned]");
      setText(now, run.total_epochs ? fill(gettext("Planned now: {count} epochs."), { count: run.total_epochs }) : "");
    }
    this.#showChoice(form);
  }

  /** What can be rolled back to; with another learning rate, if there is a knob for it. */
  #offerCheckpoints(sheet) {
    const { checkpoints } = this.#state;
    const kept = checkpoints.filter(({ abandoned }) => !abandoned);
    const text = gettext("{name}, step {step}, {time}");
    const best = kept.find(({ reason }) => reason === "best");
    const options = kept.map((one) =>
      element("option", {
        value: String(one.id),
        text: fill(text, { name: one.name, step: one.step, time: clock(one.created_at) }),
      }),
    );
    const first = [element("option", { value: "newest", text: gettext("the newest") })];
    if (best) first.push(element("option", { value: "best", text: gettext("the best") }));
    sheet.querySelector("select").replaceChildren(...first, ...options);
    sheet.querySelector("[data-slot=none]").hidden = kept.length > 0;
    for (const button of sheet.querySelectorAll("[type=submit]")) button.disabled = !kept.length;
    sheet.querySelector("[value=halve]").hidden = !this.#rate();
  }

  /** The name of the knob that is a learning rate, "" if there is none. */
  #rate() {
    return this.#state.run.knobs?.find(({ name }) => isLearningRate(name))?.name ?? "";
  }

  /** A checkpoint is promised only if the training has said how it saves one. */
  #askForCheckpoint(sheet, saves) {
    for (const part of sheet.querySelectorAll("[data-saves]")) part.hidden = !saves;
    for (const part of sheet.querySelectorAll("[data-saves-not]")) part.hidden = saves;
  }

  #showChoice(form) {
    const { when, at, checkpoint } = form.elements;
    if (when) {
      const isLater = when.value !== "now";
      at.hidden = !isLater;
      at.required = isLater;
      at.disabled = !isLater;
      at.min = String(Number(form.dataset[when.value] ?? 0) + (when.value === "step" ? 1 : 0));
      at.setAttribute("aria-label", when.value === "epoch" ? gettext("Epoch") : gettext("Step"));
    }
    if (checkpoint?.type === "checkbox") {
      const isLost = !checkpoint.checked && this.#state.run?.group === "live";
      form.querySelector("[data-slot=loss]").hidden = !isLost;
      const send = form.querySelector("[value=send]");
      setText(send, checkpoint.checked ? gettext("Stop the run") : gettext("Stop and lose the rest"));
    }
  }
}

/** Return [arguments, more] of a filled-in sheet. */
function asked(form) {
  const given = {};
  const more = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled) continue;
    if (field.name === "reason") more.reason = field.value.trim();
    else if (field.name === "at") more.at = { [form.elements.when.value]: Number(field.value) };
    else if (field.name !== "when") given[field.name] = valueOf(field);
  }
  return [given, more];
}

function isLearningRate(name) {
  const words = name.toLowerCase().split(/[^a-z0-9]+|_/);
  return words.includes("lr") || (words.includes("learning") && words.includes("rate"));
}

function withHalf([given, more], knob) {
  return [{ ...given, knob, factor: 0.5 }, more];
}

function valueOf(field) {
  if (field.type === "checkbox") return field.checked;
  return field.type === "number" ? Number(field.value) : field.value.trim();
}
