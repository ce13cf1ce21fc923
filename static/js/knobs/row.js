// One knob, or one of its parameter groups: its name, a control, and the result of the last change.
//
// Dragging only shows a draft of the value. Releasing the slider, Enter, or the button sends it; Escape discards it.

import { UNSETTLED } from "../commands/text.js";
import { setText } from "../shared/dom.js";
import { exactValue, roundedValue } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { noteContent } from "./note.js";
import { addChoice, addField, addMeter, addSet, addSlider, addSwitch, addUndo, rowParts, showUndo } from "./row_elements.js";
import { isNumeric, limitsOf, placesOf, positionOf, scaled, typedValue, valueAfterKey, valueAt } from "./scale.js";

export class KnobRow {
  #knob;
  #group;
  #onSend;
  #parts;
  #limits = null;
  // The current value (null if groups differ), effective value, last command for this row, and the values before and
  // after its last change.
  #now = { value: undefined, effective: null, last: null, canSteer: false };
  // The draft, {value, problem, text, seen}; `seen` is the value that this person saw when the draft began. Null
  // without one.
  #draft = null;
  #isDragging = false;
  #byKey = false;
  #noteChanged = changeDetector();
  #undoChanged = changeDetector();

  /** `onSend(change, seen)` sends {value} or {factor}; `maySteer`: whether this viewer may ever change it. */
  constructor(knob, { group = "", title, maySteer, onSend }) {
    this.#knob = knob;
    this.#group = group;
    this.#onSend = onSend;
    this.#parts = rowParts(knob, group, title);
    if (maySteer) this.#build();
    else addMeter(this.#parts, knob);
  }

  get root() {
    return this.#parts.root;
  }

  #build() {
    const parts = this.#parts;
    // The control for the knob's kind; kinds without one here get a text field.
    const { input } = this.#knob;
    if (input === "checkbox") addSwitch(parts, (value) => this.#onSend({ value }, this.#seen()));
    else if (input === "select") addChoice(parts, this.#knob, (value) => this.#choose(value));
    else if (!isNumeric(this.#knob)) addField(parts, this.#knob, (text) => this.#begin({ value: text, text }));
    else {
      addSlider(parts, this.#knob, {
        onMove: (place) => this.#begin({ value: valueAt(this.#knob, this.#limits, place) }),
        // Each key that moves the slider changes it, so these changes are only sent by Enter.
        onLetGo: () => this.#byKey || this.#sendDraft(),
        onDrag: (isDragging) => (this.#isDragging = isDragging),
        onType: (text) => this.#type(text),
        onScale: (factor) => this.#send({ factor }),
      });
    }
    if (!parts.box) addSet(parts, () => this.#sendDraft());
    addUndo(parts, () => this.#send({ value: this.#now.before }));
    parts.control.addEventListener("keydown", (event) => this.#key(event), true);
    parts.control.addEventListener("pointerdown", () => (this.#byKey = false), true);
    this.root.addEventListener("focusout", (event) => {
      if (!this.root.contains(event.relatedTarget) && !this.#isDragging) this.#drop();
    });
  }

  #choose(value) {
    this.#begin({ value });
    if (!this.#byKey) this.#sendDraft();
  }

  /** Send a change that a button names. */
  #send(change) {
    const seen = this.#seen();
    this.#draft = null;
    this.#onSend(change, seen);
  }

  #key(event) {
    // Shift alone does nothing, also while the pointer drags the slider.
    if (event.key === "Shift") return;
    this.#byKey = true;
    if (event.target === this.#parts.slider) this.#move(event);
    if (event.key === "Escape" && this.#draft) {
      event.stopPropagation();
      this.#drop();
    } else if (event.key === "Enter" && this.#draft && !event.target.closest("button")) {
      event.preventDefault();
      this.#sendDraft();
    }
  }

  /** Move the slider by a key: the browser's own steps differ, and it has none for Shift. */
  #move(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const shown = this.#draft?.value ?? this.#seen() ?? this.#first();
    const value = valueAfterKey(this.#knob, this.#limits, shown, event);
    if (value === null) return;
    event.preventDefault();
    if (value !== shown) this.#begin({ value });
  }

  #type(text) {
    if (text.trim() === "") this.#drop();
    else this.#begin({ ...typedValue(this.#knob, text), text });
  }

  /** Begin or update the draft. */
  #begin({ value = null, problem = "", text = null }) {
    this.#draft = { value, problem, text, seen: this.#draft ? this.#draft.seen : this.#seen() };
    this.#show();
  }

  #drop() {
    if (!this.#draft) return;
    this.#draft = null;
    this.#show();
  }

  #sendDraft() {
    this.#isDragging = false;
    if (!this.#draft || this.#draft.problem) return;
    const { value, seen } = this.#draft;
    this.#draft = null;
    if (value !== seen) this.#onSend({ value }, seen);
    this.#show();
  }

  /** Return the value that this person sees: the requested one if a change is in progress. */
  #seen() {
    const target = this.#target();
    return target === undefined ? this.#now.value : target;
  }

  /** Return the value that a pending command requests, undefined if there is none. */
  #target() {
    const { last, value } = this.#now;
    if (!last || !UNSETTLED.has(last.state) || last.at_step || last.at_epoch) return undefined;
    const given = last.arguments;
    if (given.value !== null && given.value !== undefined) return given.value;
    return isNumeric(this.#knob) && value !== null ? value * given.factor : undefined;
  }

  /**
   * Update the row: {value, effective, last, canSteer, reason, before, after}; `reason`: why it cannot be steered.
   * `knob` may have other limits than before.
   */
  update(knob, now) {
    this.#knob = knob;
    const before = this.#now;
    this.#now = now;
    // A draft without focus is dropped if another person changes the value.
    const isHeld = this.#isDragging || this.root.contains(document.activeElement);
    if (now.value !== before.value && !isHeld) this.#draft = null;
    if (Object.keys(now).some((name) => now[name] !== before[name])) this.#show();
  }

  #show() {
    const { value, effective, last, canSteer } = this.#now;
    const parts = this.#parts;
    const target = this.#target();
    const toBe = this.#draft ? this.#draft.value : target;
    const isOther = toBe !== undefined && toBe !== null && toBe !== value;
    setText(parts.value, value === null ? gettext("differs by group") : this.#withUnit(value));
    setText(parts.draft, isOther ? `→ ${exactValue(toBe)}` : "");
    const isTold = effective !== null && effective !== undefined;
    setText(parts.effective, isTold ? fill(gettext("in effect {value}"), { value: roundedValue(effective) }) : "");
    this.root.classList.toggle("knob-pending", target !== undefined && !this.#draft);
    this.root.dataset.pending = String(target !== undefined);
    if (isNumeric(this.#knob)) this.#showNumber(toBe ?? value ?? this.#first());
    else if (parts.field) this.#showText(toBe ?? value);
    if (parts.box) {
      parts.box.checked = Boolean(target ?? value);
      parts.box.disabled = !canSteer;
    }
    if (parts.list) {
      parts.list.value = String(this.#knob.choices.indexOf(toBe ?? value));
      parts.list.disabled = !canSteer;
    }
    if (parts.set)
      parts.set.hidden = !this.#draft || Boolean(this.#draft.problem) || this.#draft.value === this.#draft.seen;
    if (parts.undo) this.#showUndo(target !== undefined);
    this.#showNote(last);
  }

  #showUndo(isChanging) {
    const { value, before, after, reason } = this.#now;
    const text = before === undefined ? null : this.#withUnit(before);
    const busy = isChanging ? gettext("This command is already in progress.") : "";
    const gone = value === after ? "" : gettext("Something else has set the value since, for example a rollback.");
    const why = reason || busy || gone;
    if (this.#undoChanged(text, why)) showUndo(this.#parts, text, why);
  }

  /** Return the value of the first group, which the slider for all groups shows if groups differ. */
  #first() {
    const { value } = this.#knob;
    return value !== null && typeof value === "object" ? Object.values(value)[0] : 0;
  }

  #showNumber(shown) {
    const parts = this.#parts;
    const { value, canSteer } = this.#now;
    const base = value ?? this.#first();
    // Without limits the slider keeps its first range: a scale that moves during use would be confusing.
    const isKept = this.#limits && this.#isOpen() && shown >= this.#limits.low && shown <= this.#limits.high;
    if (!isKept) this.#limits = limitsOf(this.#knob, base);
    const bar = parts.meter ?? parts.slider;
    bar.max = String(placesOf(this.#knob, this.#limits));
    if (!this.#isDragging) bar.value = String(positionOf(this.#knob, this.#limits, shown));
    // One bar cannot show several values.
    if (parts.meter) parts.meter.hidden = value === null;
    if (!parts.slider) return;
    parts.slider.setAttribute("aria-valuetext", this.#withUnit(shown));
    parts.slider.disabled = parts.field.disabled = !canSteer;
    const isMixed = value === null && !this.#draft;
    if (!this.#draft?.text) parts.field.value = isMixed ? "" : exactValue(shown);
    parts.field.placeholder = isMixed ? gettext("mixed") : "";
    parts.field.setAttribute("aria-invalid", String(Boolean(this.#draft?.problem)));
    for (const [factor, button] of parts.factors ?? [])
      button.disabled = !canSteer || scaled(this.#knob, base, factor) === null;
  }

  #showText(shown) {
    const { field } = this.#parts;
    field.disabled = !this.#now.canSteer;
    // Do not replace text while it is being typed.
    if (!this.#draft) field.value = shown ?? "";
    field.placeholder = shown === null ? gettext("mixed") : "";
  }

  #isOpen() {
    return [this.#knob.minimum, this.#knob.maximum].some((limit) => limit === null || limit === undefined);
  }

  #withUnit(value) {
    return this.#knob.unit ? `${exactValue(value)} ${this.#knob.unit}` : exactValue(value);
  }

  #showNote(last) {
    const { note } = this.#parts;
    const problem = this.#draft?.problem ?? "";
    const isKeyed = Boolean(this.#draft) && this.#byKey && !problem;
    if (!this.#noteChanged(last, problem, isKeyed)) return;
    note.dataset.state = problem ? "refused" : isKeyed ? "" : (last?.state ?? "");
    if (problem) note.replaceChildren(problem);
    else if (isKeyed) note.replaceChildren(gettext("Enter sends it, Escape discards it."));
    else note.replaceChildren(...noteContent(last, this.#knob, this.#group));
  }
}
