// The panel of knobs: one row for each declared knob, and for each of its parameter groups.

import { knobName } from "../commands/text.js";
import { unavailableText } from "../commands/unavailable.js";
import { element, toast } from "../shared/dom.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { KnobFold } from "./panel_fold.js";
import { KnobRow } from "./row.js";
import { lastChange, valueOf } from "./values.js";

export class KnobPanel {
  #state;
  #client;
  #command;
  #section = document.getElementById("steering");
  #link = document.querySelector('.sections a[href="#steering"]');
  // The link in the bar of a phone keeps its place, and is grey without knobs.
  #barLink = document.querySelector("[data-knobs-link]");
  #place = document.getElementById("knobs");
  #waiting = this.#section.querySelector("[data-slot=waiting]");
  #fold = new KnobFold(this.#section, [this.#link, this.#barLink].filter(Boolean));
  #reason = document.getElementById("knob-reason");
  #rows = [];
  #layoutChanged = changeDetector();
  #valuesChanged = changeDetector();
  #askedChanged = changeDetector();

  /** `command`: the states in which a knob may be set, {legal_in, is_optional}. */
  constructor(state, client, command) {
    this.#state = state;
    this.#client = client;
    this.#command = command;
    this.#barLink?.addEventListener("click", (event) => {
      if (!this.#section.hidden) return;
      event.preventDefault();
      toast(this.#barLink.title, "info", "unavailable");
    });
  }

  paint() {
    const { run, versions } = this.#state;
    if (!run) return;
    const knobs = run.knobs ?? [];
    const maySteer = this.#client.may("set_knob");
    // A new attempt declares its knobs again: the panel stays until then, so that nothing jumps.
    this.#section.hidden = this.#link.hidden = !knobs.length && (this.#section.hidden || run.group === "ended");
    document.documentElement.toggleAttribute("data-has-knobs", !this.#section.hidden);
    this.#barLink?.setAttribute("aria-disabled", String(this.#section.hidden));
    if (this.#barLink) this.#barLink.title = this.#section.hidden ? gettext("The training declares no knobs.") : "";
    if (
      this.#layoutChanged(maySteer, ...knobs.map((knob) => `${knob.name} ${knob.kind} ${knob.input} ${knob.groups} ${knob.choices}`))
    )
      this.#layOut(knobs, maySteer);
    const live = knobs.map((knob) => this.#state.latest[knob.series]?.value);
    if (!this.#valuesChanged(versions.knobs, versions.run, this.#client.version, maySteer, ...live)) return;
    this.#fold.tell(knobs);
    const reason = unavailableText(run, this.#command, "set_knob", false);
    const canSteer = maySteer && !reason;
    // Values in effect change with each step, commands rarely.
    if (this.#askedChanged(versions.knobs, this.#client.version, this.#rows)) this.#findChanges(knobs);
    for (const { name, group, row, changes } of this.#rows) {
      const knob = knobs.find((one) => one.name === name);
      const { changedAt, ...asked } = changes;
      row.update(knob, { ...this.#standOf(knob, group, changedAt), ...asked, canSteer, reason });
    }
    const foot = this.#reason?.closest("[data-slot=reason]");
    if (foot) foot.hidden = !canSteer;
  }

  /** Note for each row the last command for it, the step of the last change of its knob, and the values around its own. */
  #findChanges(knobs) {
    const asked = this.#client.all().filter((command) => command.command === "set_knob");
    for (const entry of this.#rows) {
      const { name, group } = entry;
      const knob = knobs.find((one) => one.name === name);
      const own = asked.filter(({ arguments: given }) => given.knob === name);
      const last = own.findLast(({ arguments: given }) => knob.groups.length < 2 || (given.group || "") === group) ?? null;
      const changedAt = own.findLast(({ state }) => state === "applied")?.step ?? -1;
      const { before, after } = lastChange(own, knob, group) ?? {};
      entry.changes = { last, changedAt, before, after };
    }
  }

  #layOut(knobs, maySteer) {
    this.#waiting.hidden = Boolean(knobs.length);
    this.#rows = knobs.flatMap((knob) => {
      const groups = knob.groups.length > 1 ? ["", ...knob.groups] : [""];
      return groups.map((group) => ({
        name: knob.name,
        group,
        row: this.#row(knob, group, groups.length > 1, maySteer),
      }));
    });
    const cards = knobs.map((knob) =>
      element(
        "div",
        { class: "card knob-card" },
        ...this.#rows.filter(({ name }) => name === knob.name).map(({ row }) => row.root),
      ),
    );
    this.#place.replaceChildren(...cards);
    this.#valuesChanged(); // all of them are new
  }

  #row(knob, group, hasParts, maySteer) {
    const whole =
      hasParts && !group ? fill(gettext("{knob}, all groups"), { knob: knobName(knob.name) }) : knobName(knob.name);
    return new KnobRow(knob, {
      group,
      title: hasParts && group ? group : whole,
      maySteer,
      onSend: (change, seen) => this.#send(knob.name, group, change, seen),
    });
  }

  /**
   * Return the value and the effective value of a group, or of all groups if they agree (null if they differ). The
   * series is newer than the training's report of the last change, made at step `changedAt`, once the training has made
   * another step.
   */
  #standOf(knob, group, changedAt) {
    const value = valueOf(knob.value, group);
    const told = valueOf(knob.effective, group);
    const live = this.#state.latest[knob.series];
    // The series shows one number, which is that of the first group if there are several.
    const isShown = knob.groups.length < 2 || group === knob.groups[0];
    const isNewer = isShown && live && live.value !== null && live.step > changedAt;
    return { value, effective: isNewer ? live.value : told };
  }

  #send(knob, group, change, seen) {
    const reason = this.#reason?.value.trim() ?? "";
    const more = reason ? { reason } : {};
    // If the groups differ, the person has not seen a single value.
    if (seen !== null && seen !== undefined) more.expect = { value: seen };
    this.#client.send("set_knob", { knob, group, ...change }, more);
    if (this.#reason) this.#reason.value = "";
  }
}
