// How all charts of a page are drawn: smoothing, axis of values, what is drawn over. Chosen once, remembered here.

import { fixed } from "../shared/format.js";

const STORAGE_KEY = "steersman-charts";
const OVER = ["step", "epoch", "time", "relative"];
const MOST_SMOOTHING = 0.99;

export class ChartView {
  smoothing = 0;
  log = false;
  over = "step";
  // Whether interventions are marked.
  marks = true;
  version = 0;
  #form;
  #onChange;

  /**
   * `form` holds the controls named smoothing, log, over and, where there are any, marks; `onChange(what)` is told
   * what was changed.
   */
  constructor(form, onChange) {
    this.#form = form;
    this.#onChange = onChange;
    this.#recall();
    const { smoothing, log, over, marks } = form.elements;
    smoothing.value = String(this.smoothing);
    log.checked = this.log;
    over.value = this.over;
    if (marks) marks.checked = this.marks;
    this.#show();
    form.addEventListener("input", (event) => this.#read(event.target.name));
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** Epochs can be chosen once it is known how many steps one has. */
  allowEpochs(known) {
    const option = this.#form.elements.over.querySelector("[value=epoch]");
    if (option.disabled === known) option.disabled = !known;
  }

  #read(what) {
    const { smoothing, log, over, marks } = this.#form.elements;
    this.smoothing = bounded(Number(smoothing.value));
    this.log = log.checked;
    if (marks) this.marks = marks.checked;
    this.over = OVER.includes(over.value) ? over.value : "step";
    this.version += 1;
    this.#show();
    try {
      const { smoothing, log, over, marks } = this;
      localStorage.setItem(STORAGE_KEY, JSON.stringify({ smoothing, log, over, marks }));
    } catch {
      // storage is switched off: the choice lasts for the page
    }
    this.#onChange(what);
  }

  #recall() {
    try {
      const kept = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? "{}");
      this.smoothing = bounded(Number(kept.smoothing));
      this.log = kept.log === true;
      this.marks = kept.marks !== false;
      if (OVER.includes(kept.over)) this.over = kept.over;
    } catch {
      // storage is switched off, or holds what is not ours
    }
  }

  #show() {
    this.#form.querySelector("output").textContent = fixed(this.smoothing, 2);
  }
}

function bounded(value) {
  return value > 0 ? Math.min(MOST_SMOOTHING, value) : 0;
}
