// Folds the panel of knobs, and shows their values in one line while it is folded.

import { isByGroup, knobName } from "../commands/text.js";
import { setText } from "../shared/dom.js";
import { exactValue } from "../shared/format.js";

const isOpen = () => document.documentElement.dataset.knobs === "open";

function choose(fold) {
  window.dispatchEvent(new CustomEvent("knobschoice", { detail: fold }));
}

export class KnobFold {
  #summary;

  /** `section` is the panel, `links` are the links to it. */
  constructor(section, links) {
    const button = section.querySelector("[data-slot=fold]");
    this.#summary = section.querySelector("[data-slot=summary]");
    const show = () => button.setAttribute("aria-expanded", String(isOpen()));
    button.addEventListener("click", () => choose(isOpen() ? "folded" : "open"));
    for (const link of links) link.addEventListener("click", () => choose("open"));
    window.addEventListener("knobschange", show);
    show();
  }

  tell(knobs) {
    setText(this.#summary, summaryOf(knobs));
  }
}

/** Return the values of knobs in one line: "Learning rate 0.001 · Weight decay 0.01 / 0". */
export function summaryOf(knobs) {
  return knobs.map((knob) => `${knobName(knob.name)} ${valueText(knob)}`).join(" · ");
}

function valueText({ value, unit }) {
  const values = isByGroup(value) ? [...new Set(Object.values(value))] : [value];
  const text = values.map(exactValue).join(" / ");
  return unit ? `${text} ${unit}` : text;
}
