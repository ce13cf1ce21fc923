// Buttons and keys that control the run, and the sheets that ask for arguments.

import { UNSETTLED } from "../commands/text.js";
import { unavailableText } from "../commands/unavailable.js";
import { element, partsOf, setContent, setText, toast } from "../shared/dom.js";
import { clock, moment } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { momentElement } from "../shared/moments.js";
import { changeDetector } from "../shared/painter.js";
import { openSheet, shortcut } from "../shared/shortcuts.js";
import { currentEpoch } from "../state/progress.js";

const KEYS = { s: "stop", c: "save_checkpoint", e: "evaluate", n: "note", b: "roll_back", x: "extend", k: "end_process" };
// While one of these is pending, a second one would be refused.
const ONE_AT_A_TIME = new Set(["stop", "end_process", "pause", "resume", "evaluate", "roll_back"]);
const OPPOSITES = { pause: "resume", resume: "pause" };

export class Controls {
  #state;
  #client;
  #commands;
  #buttons = new Map();
  #bar = document.getElementById("controls");
  // On a phone: the button that shows the buttons which do not fit into the bar.
  #more = document.querySelector("#controls [data-slot=more]");
  #sheets = new Map();
  // The button that had the focus when it was hidden or disabled.
  #held = null;
  #changed = changeDetector();

  /** `commands`: by kind, the server's data about each command, such as the states in which it is legal. */
  constructor(state, client, commands) {
    this.#state = state;
    this.#client = client;
    this.#commands = commands;
    for (const button of document.querySelectorAll("[data-ask]")) {
      this.#buttons.set(button, { kind: button.dataset.ask, title: button.title });
      button.addEventListener("click", () => this.#click(button));
    }
    this.#more?.addEventListener("click", () => this.#openMore(this.#more.getAttribute("aria-expanded") === "false"));
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
    for (const [button, { kind, title }] of this.#buttons) {
      button.hidden = !this.#isShown(kind);
      const reason = this.#client.may(kind)
        ? unavailableText(run, this.#commands[kind], kind, ONE_AT_A_TIME.has(kind) && busy.has(kind))
        : gettext("Only operators and owners of the project may do this.");
      button.setAttribute("aria-disabled", String(Boolean(reason)));
      button.title = reason ? fill(gettext("{title}: {reason}"), { title, reason }) : title;
      button.dataset.reason = reason;
    }
    const group = this.#bar?.querySelector(".btn-group");
    if (group) group.hidden = !this.#isShown("pause");
    document.documentElement.toggleAttribute("data-steers", Boolean(this.#bar));
    this.#keepFocus();
  }

  /** Move the focus from a button that was hidden or waits for its answer to its successor, so that it is not lost. */
  #keepFocus() {
    if (!this.#held || (document.activeElement !== document.body && document.activeElement !== this.#held)) {
      this.#held = null;
      return;
    }
    const { kind } = this.#buttons.get(this.#held);
    const opposites = [...this.#buttons.keys()].filter((one) => this.#buttons.get(one).kind === OPPOSITES[kind]);
    [this.#held, ...opposites].find((one) => !one.hidden)?.focus();
  }

  /**
   * Return whether a button is shown: Pause and Resume share one place, and ending a process is only offered if needed.
   */
  #isShown(kind) {
    const { state, offers } = this.#state.run;
    if (kind === "pause") return state !== "paused";
    if (kind === "resume") return state === "paused";
    return kind !== "end_process" || (offers.includes(kind) && this.#commands[kind].legal_in.includes(state));
  }

  #click(button) {
    const { reason, ask } = button.dataset;
    // People who cannot hover over a button can read here why it is grey.
    if (reason) toast(reason, "info", "unavailable");
    else if (button.getAttribute("aria-disabled") !== "true") this.#press(ask, "later" in button.dataset);
    if (!button.classList.contains("btn-main")) this.#openMore(false);
  }

  #openMore(isOpen) {
    this.#more?.setAttribute("aria-expanded", String(isOpen));
    this.#bar?.toggleAttribute("data-more", isOpen);
  }

  #key(kind, later = false) {
    const button = [...this.#buttons.keys()].find(
      (one) => one.dataset.ask === kind && "later" in one.dataset === later && !one.hidden,
    );
    if (button) this.#click(button);
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

  /** Show the current state of the run in the sheet, because the input refers to it. */
  #fillIn(sheet, kind) {
    const { run, checkpoints } = this.#state;
    const form = sheet.querySelector("form");
    const last = checkpoints[0];
    const newest = sheet.querySelector("[data-slot=newest]");
    if (newest) {
      const text = gettext("Newest checkpoint: {name}, step {step}, {time}");
      const parts = last
        ? partsOf(text, { name: last.name, step: String(last.step), time: momentElement(last.created_at) })
        : [gettext("There is no checkpoint yet.")];
      setContent(newest, ...parts);
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

  /** Offer the checkpoints for a rollback, and another learning rate if there is a knob for it. */
  #offerCheckpoints(sheet) {
    const { checkpoints } = this.#state;
    const kept = checkpoints.filter(({ abandoned }) => !abandoned);
    const text = gettext("{name}, step {step}, {time}");
    const best = kept.find(({ reason }) => reason === "best");
    const options = kept.map((one) =>
      element("option", {
        value: String(one.id),
        title: moment(one.created_at),
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

  /** Return the name of the knob that is a learning rate, "" if there is none. */
  #rate() {
    return this.#state.run.knobs?.find(({ name }) => isLearningRate(name))?.name ?? "";
  }

  /** Offer a checkpoint only if the training has declared how it saves one. */
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
      setText(send, checkpoint.checked ? gettext("Stop the run") : gettext("Stop without a checkpoint"));
    }
  }
}

/** Return [arguments, more] of a completed sheet. */
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
