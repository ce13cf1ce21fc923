// The list of the compared runs: an eye button for each, the value at the cursor, and the run under the pointer.

import { swatchOf } from "../chart/frame.js";
import { setText } from "../shared/dom.js";
import { measure } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { lineColour } from "../shared/palette.js";

export class CompareRunList {
  #runs;
  #looks;

  /** `place` contains the table, which the server renders again. */
  constructor(place, runs, looks) {
    this.#runs = runs;
    this.#looks = looks;
    place.addEventListener("click", (event) => this.#click(event));
    for (const kind of ["pointerover", "focusin"])
      place.addEventListener(kind, (event) => looks.point(runOf(event.target)));
    for (const kind of ["pointerleave", "focusout"]) place.addEventListener(kind, () => looks.point(null));
  }

  /** Show the look of each run, and the values of `chart`, in the rows below `root`. */
  dress(root, chart) {
    const head = root.querySelector("[data-slot=value-head]");
    if (head && chart) setText(head, chart.name);
    this.#runs.forEach((run, place) => {
      const row = root.querySelector(`[data-table=runs] tr[data-run="${run.id}"]`);
      if (row) this.#dressRow(row, run, place, chart);
    });
  }

  #dressRow(row, run, place, chart) {
    const slot = (name) => row.querySelector(`[data-slot=${name}]`);
    const look = this.#looks.lookOf(place);
    if (!slot("swatch").firstChild) slot("swatch").append(swatchOf(look));
    slot("swatch").querySelector("line").setAttribute("stroke", lineColour(look.colour));
    const isShown = this.#looks.isShown(run.id);
    row.classList.toggle("run-hidden", !isShown);
    row.classList.toggle("run-outside", !this.#looks.isSelected(run.id));
    row.classList.toggle("run-near", this.#looks.isNear(run.id));
    row.querySelector("[data-eye]").setAttribute("aria-pressed", String(isShown));
    if (!chart) return;
    setText(slot("last"), chart.textOf(place) || "–");
    const extreme = chart.extremeOf(run.id);
    const text = chart.lowest ? gettext("lowest {value}") : gettext("highest {value}");
    setText(slot("extreme"), extreme === null ? "" : fill(text, { value: measure(chart.name, extreme) }));
  }

  #click(event) {
    const eye = event.target.closest("[data-eye]");
    if (eye) this.#looks.toggle(runOf(eye));
    if (event.target.closest("[data-show-all]")) this.#looks.hide([]);
    if (event.target.closest("[data-hide-all]")) this.#looks.hide(this.#runs.map(({ id }) => id));
  }
}

function runOf(node) {
  const row = node.closest?.("tr[data-run]");
  return row ? Number(row.dataset.run) : null;
}
