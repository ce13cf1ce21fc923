// The elements of a knob's row: its head, and a slider with a field, a switch, a list or a text field.

import { element, setHidden, toast } from "../shared/dom.js";
import { exactValue } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { isNumeric } from "./scale.js";

const FACTORS = [
  [0.5, "×½", gettext("Halve")],
  [2, "×2", gettext("Double")],
];
let rows = 0;

/**
 * Return the elements of a row: {root, value, effective, draft, note, control, label}; `label` is the id of its name.
 */
export function rowParts(knob, group, title) {
  const label = `knob-${(rows += 1)}`;
  const parts = {
    label,
    value: element("strong", { class: "knob-value", "data-testid": "knob-value" }),
    draft: element("span", { class: "knob-draft", "data-testid": "knob-draft" }),
    effective: element("span", { class: "knob-effective", "data-testid": "knob-effective" }),
    control: element("div", { class: "knob-control" }),
    note: element("div", { class: "knob-note", role: "status", "data-testid": "knob-note" }),
  };
  const name = element("span", { class: "knob-name", id: label, text: title });
  parts.root = element(
    "div",
    {
      class: group ? "knob-row knob-part" : "knob-row",
      role: "group",
      "aria-labelledby": label,
      "data-testid": "knob",
      "data-knob": knob.name,
      "data-group": group,
    },
    element("div", { class: "knob-head" }, name, parts.value, parts.draft, parts.effective),
    parts.control,
    parts.note,
  );
  return parts;
}

/** Add a meter that shows a number to people who may only watch. */
export function addMeter(parts, knob) {
  if (!isNumeric(knob)) return;
  parts.meter = element("progress", { class: "bar knob-meter", "aria-labelledby": parts.label });
  parts.control.append(parts.meter);
}

/** Add a switch; `onTurn(isOn)` is called when it is toggled. */
export function addSwitch(parts, onTurn) {
  const look = { class: "form-check-input", type: "checkbox", role: "switch", "aria-labelledby": parts.label };
  parts.box = element("input", look);
  parts.box.addEventListener("change", () => onTurn(parts.box.checked));
  parts.control.append(element("span", { class: "form-check form-switch knob-switch" }, parts.box));
}

/** Add a list of the choices; `onChoose(value)` is called when one is chosen. */
export function addChoice(parts, knob, onChoose) {
  const options = knob.choices.map((choice, index) => element("option", { value: index, text: exactValue(choice) }));
  const look = { class: "form-select form-select-sm knob-choice", "aria-labelledby": parts.label };
  parts.list = element("select", look, ...options);
  parts.list.addEventListener("change", () => onChoose(knob.choices[Number(parts.list.value)]));
  parts.control.append(parts.list);
}

/** Add a text field, and return it; `onType(text)` is called while a person types. */
export function addField(parts, knob, onType) {
  parts.field = element("input", {
    class: "form-control form-control-sm knob-field",
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    "aria-labelledby": parts.label,
    "data-testid": "knob-field",
  });
  parts.field.addEventListener("input", () => onType(parts.field.value));
  const unit = knob.unit ? element("span", { class: "knob-unit", text: knob.unit }) : null;
  parts.control.append(element("span", { class: "knob-typed" }, parts.field, unit));
  return parts.field;
}

/** Add a slider with a field, and buttons that halve and double numbers on a logarithmic scale. */
export function addSlider(parts, knob, { onMove, onLetGo, onDrag, onType, onScale }) {
  parts.slider = element("input", {
    class: "form-range knob-slider",
    type: "range",
    min: 0,
    "aria-labelledby": parts.label,
    "data-testid": "knob-slider",
  });
  parts.slider.addEventListener("input", () => onMove(Number(parts.slider.value)));
  parts.slider.addEventListener("change", onLetGo);
  parts.slider.addEventListener("pointerdown", () => onDrag(true));
  for (const end of ["pointerup", "pointercancel"]) parts.slider.addEventListener(end, () => onDrag(false));
  parts.control.append(parts.slider);
  addField(parts, knob, onType).inputMode = "decimal";
  if (knob.step || knob.scale !== "log") return;
  parts.factors = FACTORS.map(([factor, text, name]) => {
    const look = { class: "btn btn-sm knob-factor", type: "button", "aria-label": name, title: name, text };
    const button = element("button", { ...look, "data-factor": factor });
    button.addEventListener("click", () => onScale(factor));
    return [factor, button];
  });
  parts.control.append(element("span", { class: "knob-factors" }, ...parts.factors.map(([, button]) => button)));
}

/** Add the button that brings back the value before the last change; it says why if it cannot. */
export function addUndo(parts, onUndo) {
  const look = { class: "btn btn-sm knob-undo", type: "button", hidden: true, "data-testid": "knob-undo" };
  parts.undo = element("button", { ...look, text: gettext("Undo") });
  parts.undo.addEventListener("click", () => {
    const { reason } = parts.undo.dataset;
    if (reason) toast(reason, "info", "unavailable");
    else onUndo();
  });
  parts.control.append(parts.undo);
}

/** Show which value *Undo* brings back, as text, and why it cannot; null hides the button. */
export function showUndo({ undo }, value, reason) {
  setHidden(undo, value === null);
  if (value === null) return;
  const text = reason ? gettext("Undo: set {value} again: {reason}") : gettext("Undo: set {value} again");
  const label = fill(text, { value, reason });
  undo.dataset.reason = reason;
  undo.title = label;
  undo.setAttribute("aria-label", label);
  // A disabled button would lose the focus.
  undo.setAttribute("aria-disabled", String(Boolean(reason)));
}

/** Add the button that sends the draft, for the keyboard, and for touch screens after typing. */
export function addSet(parts, onSet) {
  const look = { class: "btn btn-sm btn-primary knob-set", type: "button", hidden: true, text: gettext("Set") };
  parts.set = element("button", look);
  parts.set.addEventListener("click", onSet);
  // Some browsers would move the focus away, and so drop the draft, before the click.
  parts.set.addEventListener("mousedown", (event) => event.preventDefault());
  parts.control.append(parts.set);
}
