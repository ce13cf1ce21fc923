// How all charts of a page are drawn: smoothing, value axis, x axis. People choose it once per page, and the browser
// stores it.

import { element } from "../shared/dom.js";
import { fixed } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { KINDS, smoothed, spanOf } from "./smoothing.js";

const STORAGE_KEY = "steersman-charts";
const OVER = ["step", "epoch", "time", "relative"];
const MOST_SMOOTHING = 0.99;

export class ChartView {
  smoothing = 0;
  // The kind of smoothing, one of KINDS.
  kind = KINDS[0];
  // Whether a few outliers determine the scale.
  outliers = true;
  log = false;
  // Whether interventions are marked.
  marks = true;
  // Lines are drawn as this attempt left them. Not stored, because it belongs to one run.
  attempt = Infinity;
  version = 0;
  // The chosen unit of x, and whether the page can convert steps to epochs.
  #chosen = "step";
  #knowsEpochs = true;
  #attempts = 0;
  #form;
  #onChange;

  /**
   * `form` has the controls named smoothing, kind, log, outliers, over and, if present, marks and attempt.
   * `onChange(what)` gets the name of the changed control.
   */
  constructor(form, onChange) {
    this.#form = form;
    this.#onChange = onChange;
    this.#recall();
    this.#fill();
    const { attempt } = form.elements;
    form.addEventListener("input", ({ target }) => target.name && this.#read(target.name));
    // It is in the head of the page, outside the form.
    attempt?.addEventListener("input", () => this.#read("attempt"));
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** Return the unit of x: steps if epochs are chosen and cannot be drawn. */
  get over() {
    return this.#chosen === "epoch" && !this.#knowsEpochs ? "step" : this.#chosen;
  }

  set over(unit) {
    this.#chosen = unit;
  }

  /** Return the unit of x that was chosen, also if it cannot be drawn here yet. */
  get chosen() {
    return this.#chosen;
  }

  /** Return how charts are drawn now. */
  describe() {
    const { smoothing, kind, log, outliers, over, attempt } = this;
    return { smoothing, kind, log, outliers, over, attempt };
  }

  /** Draw charts by `view`, a result of `describe`; the preferences stored in this browser do not change. */
  apply({ smoothing, kind, log, outliers, over, attempt }) {
    Object.assign(this, { smoothing: bounded(smoothing), kind, log, outliers, over, attempt });
    this.#fill();
    this.version += 1;
  }

  /** Show the current values in the controls. */
  #fill() {
    const { smoothing, kind, log, outliers, over, marks } = this.#form.elements;
    smoothing.value = String(this.smoothing);
    kind.value = this.kind;
    outliers.checked = !this.outliers;
    log.checked = this.log;
    over.value = this.over;
    if (marks) marks.checked = this.marks;
    this.#show();
  }

  /** Enable epochs as x axis once the number of steps per epoch is known; return whether the unit of x has changed. */
  allowEpochs(known) {
    const { over } = this.#form.elements;
    const option = over.querySelector("[value=epoch]");
    if (option.disabled === known) option.disabled = !known;
    if (this.#knowsEpochs === known) return false;
    this.#knowsEpochs = known;
    if (this.#chosen !== "epoch") return false;
    over.value = this.over;
    this.version += 1;
    return true;
  }

  /** Let people choose among several attempts; `attempts` are rows with `number`, in order. */
  offerAttempts(attempts) {
    const { attempt: choice } = this.#form.elements;
    if (!choice || attempts.length === this.#attempts) return;
    this.#attempts = attempts.length;
    const numbers = attempts.map(({ number }) => number).reverse();
    const text = (number, place) =>
      fill(place ? gettext("Attempt {number}") : gettext("Attempt {number}, the latest"), { number });
    const value = (number, place) => (place ? String(number) : "");
    choice.replaceChildren(
      ...numbers.map((number, place) =>
        element("option", { value: value(number, place), text: text(number, place) }),
      ),
    );
    choice.value = Number.isFinite(this.attempt) ? String(this.attempt) : "";
    choice.closest("label").hidden = numbers.length < 2;
  }

  /** Take the values of the controls, store them, and report the change of `what`. */
  #read(what) {
    const { smoothing, kind, log, outliers, over, marks, attempt } = this.#form.elements;
    this.smoothing = bounded(Number(smoothing.value));
    this.kind = KINDS.includes(kind.value) ? kind.value : KINDS[0];
    this.outliers = !outliers.checked;
    this.log = log.checked;
    if (marks) this.marks = marks.checked;
    this.attempt = Number(attempt?.value) || Infinity;
    // Other controls leave the choice as it is, also if it cannot be drawn here.
    if (what === "over") this.#chosen = OVER.includes(over.value) ? over.value : "step";
    this.version += 1;
    this.#show();
    try {
      const { smoothing, kind, log, outliers, marks } = this;
      localStorage.setItem(STORAGE_KEY, JSON.stringify({ smoothing, kind, log, outliers, over: this.#chosen, marks }));
    } catch {
      // storage is switched off: the choice lasts for the page
    }
    this.#onChange(what);
  }

  /** Restore the preferences that this browser has stored. */
  #recall() {
    try {
      const kept = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? "{}");
      this.smoothing = bounded(Number(kept.smoothing));
      this.log = kept.log === true;
      this.outliers = kept.outliers !== false;
      if (KINDS.includes(kept.kind)) this.kind = kept.kind;
      this.marks = kept.marks !== false;
      if (OVER.includes(kept.over)) this.#chosen = kept.over;
    } catch {
      // storage is switched off, or contains something else
    }
  }

  /** Show the strength of smoothing as text. */
  #show() {
    const points = fill(gettext("{points} points"), { points: spanOf(this.smoothing) });
    const text = this.kind === "ema" || !this.smoothing ? fixed(this.smoothing, 2) : points;
    this.#form.querySelector("output").textContent = text;
  }

  /** Return the function that smooths a column of values, null if nothing is smoothed. */
  smoother() {
    const { smoothing, kind } = this;
    return smoothing ? (values) => smoothed(values, smoothing, kind) : null;
  }
}

/** Return a valid strength of smoothing, 0 to MOST_SMOOTHING. */
function bounded(value) {
  return value > 0 ? Math.min(MOST_SMOOTHING, value) : 0;
}
