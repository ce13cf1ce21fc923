// One knob, or its part for one parameter group: what it is, a slider, a field, and how the last change went.
//
// Dragging only shows the value to be. Letting go of the slider, Enter, or the button sends it; Escape takes it back.

import { changeText, UNSETTLED } from "./command_words.js";
import { element, setText } from "./dom.js";
import {
  exact,
  isNumeric,
  keyStep,
  limitsOf,
  placesOf,
  positionOf,
  rangeText,
  scaled,
  typedValue,
  valueAt,
} from "./knob_scale.js";
import { knobHelp } from "./knob_texts.js";
import { changes } from "./paint.js";
import { stagesOf, placeText } from "./stages.js";
import { fill, gettext } from "./text.js";

let rows = 0;

export class KnobRow {
  #knob;
  #group;
  #onSend;
  #limits = null;
  // What is there: value (null where groups differ), effective, and the last command for this row.
  #now = { value: undefined, effective: null, last: null };
  // The value to be, and the one that was seen when it was begun; null while nothing is.
  #draft = null;
  #isDragging = false;
  #byKey = false;
  #noteChanged = changes();
  #parts;

  /** `onSend(value, seen)` asks for a value; `maySteer`: whether this viewer could ever. */
  constructor(knob, { group = "", title, maySteer, onSend }) {
    this.#knob = knob;
    this.#group = group;
    this.#onSend = onSend;
    const id = `knob-${(rows += 1)}`;
    this.#parts = {
      title: element("span", { class: "knob-name", id, text: title }),
      value: element("strong", { class: "knob-value", "data-testid": "knob-value" }),
      effective: element("span", { class: "knob-effective", "data-testid": "knob-effective" }),
      draft: element("span", { class: "knob-draft", "data-testid": "knob-draft" }),
      note: element("div", { class: "knob-note", role: "status", "data-testid": "knob-note" }),
      control: element("div", { class: "knob-control" }),
    };
    const { parts } = { parts: this.#parts };
    this.root = element(
      "div",
      {
        class: group ? "knob-row knob-part" : "knob-row",
        role: "group",
        "aria-labelledby": id,
        "data-testid": "knob",
        "data-knob": knob.name,
        "data-group": group,
      },
      element("div", { class: "knob-head" }, parts.title, parts.value, parts.draft, parts.effective),
      parts.control,
      parts.note,
    );
    if (maySteer) this.#build(id);
    else if (isNumeric(knob))
      parts.control.append((parts.meter = element("progress", { class: "bar knob-meter", "aria-labelledby": id })));
  }

  #build(label) {
    const { control } = this.#parts;
    const knob = this.#knob;
    if (knob.kind === "bool") this.#buildSwitch(label);
    else if (knob.kind === "choice") this.#buildChoice(label);
    else this.#buildSlider(label);
    control.addEventListener("keydown", (event) => this.#key(event), true);
    control.addEventListener("pointerdown", () => (this.#byKey = false), true);
    this.root.addEventListener("focusout", (event) => {
      if (!this.root.contains(event.relatedTarget) && !this.#isDragging) this.#drop();
    });
  }

  #buildSwitch(label) {
    const box = element("input", {
      class: "form-check-input",
      type: "checkbox",
      role: "switch",
      "aria-labelledby": label,
    });
    box.addEventListener("change", () => this.#send(box.checked));
    this.#parts.box = box;
    this.#parts.control.append(element("span", { class: "form-check form-switch knob-switch" }, box));
  }

  #buildChoice(label) {
    const options = this.#knob.choices.map((choice, index) => element("option", { value: index, text: exact(choice) }));
    const list = element(
      "select",
      { class: "form-select form-select-sm knob-choice", "aria-labelledby": label },
      ...options,
    );
    list.addEventListener("change", () => {
      this.#begin(this.#knob.choices[Number(list.value)]);
      if (!this.#byKey) this.#sendDraft();
    });
    this.#parts.control.append((this.#parts.list = list), this.#setButton());
  }

  #buildSlider(label) {
    const parts = this.#parts;
    parts.slider = element("input", {
      class: "form-range knob-slider",
      type: "range",
      min: 0,
      "aria-labelledby": label,
      "data-testid": "knob-slider",
    });
    parts.field = element("input", {
      class: "form-control form-control-sm knob-field",
      type: "text",
      inputmode: "decimal",
      autocomplete: "off",
      spellcheck: "false",
      "aria-labelledby": label,
      "data-testid": "knob-field",
    });
    parts.slider.addEventListener("input", () =>
      this.#begin(valueAt(this.#knob, this.#limits, Number(parts.slider.value))),
    );
    // A key moves the slider in steps that are each "changed": those are sent by Enter.
    parts.slider.addEventListener("change", () => this.#byKey || this.#sendDraft());
    parts.slider.addEventListener("pointerdown", () => (this.#isDragging = true));
    for (const end of ["pointerup", "pointercancel"])
      parts.slider.addEventListener(end, () => (this.#isDragging = false));
    parts.field.addEventListener("input", () => this.#type());
    const field = element(
      "span",
      { class: "knob-typed" },
      parts.field,
      this.#knob.unit ? element("span", { class: "knob-unit", text: this.#knob.unit }) : null,
    );
    parts.control.append(parts.slider, field);
    if (this.#knob.kind === "float" && this.#knob.scale === "log") {
      for (const [factor, text, name] of [
        [0.5, "×½", gettext("Halve")],
        [2, "×2", gettext("Double")],
      ])
        parts.control.append(this.#factorButton(factor, text, name));
    }
    parts.control.append(this.#setButton());
  }

  #factorButton(factor, text, name) {
    const button = element("button", {
      class: "btn btn-sm knob-factor",
      type: "button",
      "aria-label": name,
      title: name,
      text,
      "data-factor": factor,
    });
    button.addEventListener("click", () => {
      this.#drop();
      this.#onSend({ factor }, this.#seen());
    });
    (this.#parts.factors ??= []).push([factor, button]);
    return button;
  }

  #setButton() {
    const button = element("button", {
      class: "btn btn-sm btn-primary knob-set",
      type: "button",
      hidden: true,
      text: gettext("Set"),
    });
    button.addEventListener("click", () => this.#sendDraft());
    this.#parts.set = button;
    return button;
  }

  #key(event) {
    this.#byKey = true;
    if (event.key === "Escape" && this.#draft) {
      event.stopPropagation();
      this.#drop();
    } else if (event.key === "Enter" && this.#draft && event.target !== this.#parts.set) {
      event.preventDefault();
      this.#sendDraft();
    }
  }

  #type() {
    const text = this.#parts.field.value;
    const typed = typedValue(this.#knob, text);
    if (text.trim() === "") this.#drop();
    else this.#begin(typed.value ?? null, typed.problem ?? "", text);
  }

  /** Show the value to be. It is measured against the value that was seen when it was begun. */
  #begin(value, problem = "", text = null) {
    this.#draft = { value, problem, text, seen: this.#draft ? this.#draft.seen : this.#seen() };
    this.#show();
  }

  #drop() {
    if (!this.#draft) return;
    this.#draft = null;
    this.#show();
  }

  /** What this person sees as the value: the one asked for where a change is under way. */
  #seen() {
    const target = this.#target();
    return target === undefined ? this.#now.value : target;
  }

  #sendDraft() {
    this.#isDragging = false;
    if (!this.#draft || this.#draft.problem) return;
    const { value, seen } = this.#draft;
    this.#draft = null;
    if (value !== seen) this.#onSend({ value }, seen);
    this.#show();
  }

  #send(value) {
    this.#onSend({ value }, this.#seen());
  }

  /** The value that a command under way asks for, undefined where there is none. */
  #target() {
    const { last, value } = this.#now;
    if (!last || !UNSETTLED.has(last.state) || last.at_step || last.at_epoch) return undefined;
    const given = last.arguments;
    if (given.value !== null && given.value !== undefined) return given.value;
    return isNumeric(this.#knob) && value !== null ? value * given.factor : undefined;
  }

  /** Take over what the run says now; `knob` may have other limits than before. */
  update(knob, { value, effective, last, canSteer }) {
    this.#knob = knob;
    const isSame = value === this.#now.value && effective === this.#now.effective && last === this.#now.last;
    // A value to be that is neither dragged nor in the hands of the keyboard gives way to another person's change.
    if (value !== this.#now.value && !this.#isDragging && !this.root.contains(document.activeElement))
      this.#draft = null;
    this.#now = { value, effective, last };
    if (!isSame || canSteer !== this.canSteer) {
      this.canSteer = canSteer;
      this.#show();
    }
  }

  #show() {
    const { value, effective, last } = this.#now;
    const target = this.#target();
    const parts = this.#parts;
    setText(parts.value, value === null ? gettext("differs by group") : this.#withUnit(exact(value)));
    setText(
      parts.effective,
      effective === null || effective === undefined
        ? ""
        : fill(gettext("in effect {value}"), { value: exact(effective) }),
    );
    const toBe = this.#draft ? this.#draft.value : target;
    setText(parts.draft, toBe === undefined || toBe === null || toBe === value ? "" : `→ ${exact(toBe)}`);
    this.root.classList.toggle("knob-pending", target !== undefined && !this.#draft);
    this.root.dataset.pending = String(target !== undefined);
    if (isNumeric(this.#knob)) this.#showNumber(toBe ?? value ?? this.#middle());
    if (parts.box) {
      parts.box.checked = Boolean(target ?? value);
      parts.box.disabled = !this.canSteer;
    }
    if (parts.list) {
      parts.list.value = String(this.#knob.choices.indexOf(toBe ?? value));
      parts.list.disabled = !this.canSteer;
    }
    if (parts.set)
      parts.set.hidden = !this.#draft || Boolean(this.#draft.problem) || this.#draft.value === this.#draft.seen;
    this.#showNote(last);
  }

  /** Where groups differ the slider of all stands at their first. */
  #middle() {
    return this.#knob.value && typeof this.#knob.value === "object" ? Object.values(this.#knob.value)[0] : 0;
  }

  #showNumber(shown) {
    const parts = this.#parts;
    const base = this.#now.value ?? this.#middle();
    // Open ends are kept where they were first: a slider whose scale moves under the hand is of no use.
    if (!this.#limits || shown < this.#limits.low || shown > this.#limits.high || !this.#isOpen())
      this.#limits = limitsOf(this.#knob, base);
    const place = positionOf(this.#knob, this.#limits, shown);
    const last = placesOf(this.#knob, this.#limits);
    if (parts.meter) {
      parts.meter.max = last;
      parts.meter.value = place;
    }
    if (!parts.slider) return;
    parts.slider.max = String(last);
    parts.slider.step = String(this.#isDragging || !this.#byKey ? 1 : keyStep(this.#knob, this.#limits));
    if (!this.#isDragging) parts.slider.value = String(place);
    parts.slider.setAttribute("aria-valuetext", this.#withUnit(exact(shown)));
    parts.slider.disabled = parts.field.disabled = !this.canSteer;
    if (document.activeElement !== parts.field || !this.#draft?.text)
      parts.field.value = this.#now.value === null && !this.#draft ? "" : exact(shown);
    parts.field.placeholder = this.#now.value === null ? gettext("mixed") : "";
    parts.field.setAttribute("aria-invalid", String(Boolean(this.#draft?.problem)));
    for (const [factor, button] of parts.factors ?? [])
      button.disabled = !this.canSteer || scaled(this.#knob, base, factor) === null;
  }

  #isOpen() {
    const { minimum, maximum } = this.#knob;
    return [minimum, maximum].some((limit) => limit === null || limit === undefined);
  }

  #withUnit(text) {
    return this.#knob.unit ? `${text} ${this.#knob.unit}` : text;
  }

  #showNote(last) {
    const { note } = this.#parts;
    const problem = this.#draft?.problem ?? "";
    const isKeyed = Boolean(this.#draft) && this.#byKey && !problem;
    if (!this.#noteChanged(last, problem, isKeyed)) return;
    note.dataset.state = problem ? "refused" : (last?.state ?? "");
    if (problem) note.replaceChildren(problem);
    else if (isKeyed) note.replaceChildren(gettext("Enter sends it, Escape takes it back."));
    else if (!last) note.replaceChildren(this.#aboutText());
    else if (last.state === "applied") note.replaceChildren(appliedText(last));
    else if (UNSETTLED.has(last.state))
      note.replaceChildren(stagesOf(last), element("span", { text: placeText(last) }));
    else
      note.replaceChildren(
        fill(last.state === "expired" ? gettext("Not done: {reason}") : gettext("Refused: {reason}"), {
          reason: last.outcome,
        }),
      );
  }

  #aboutText() {
    if (this.#group) return "";
    return [knobHelp(this.#knob.help), rangeText(this.#knob)].filter(Boolean).join(" · ");
  }
}

function appliedText(command) {
  const step =
    command.step === null || command.step === undefined ? "" : fill(gettext("at step {x}"), { x: command.step });
  return [changeText(command), step, command.author].filter(Boolean).join(" · ");
}
