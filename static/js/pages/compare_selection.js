// The selection of runs to compare: what is ticked stays so while the list refreshes, filters and turns its pages.

import { setText } from "../shared/dom.js";
import { fill, gettext } from "../shared/i18n.js";

const STORAGE_KEY = "steersman-compare";
// One by one at most 50: more are compared in groups.
const MOST_RUNS = 400;

export class CompareSelection {
  #place;
  #form;
  #chosen;

  /** `place` holds the list, `form` the button that leads to the comparison. */
  constructor(place, form) {
    this.#place = place;
    this.#form = form;
    this.#chosen = recall();
    place.addEventListener("change", (event) => {
      if (event.target.name === "run") this.#toggle(event.target);
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const query = new URLSearchParams([...this.#chosen].map((run) => ["run", run]));
      window.location.assign(`${form.action}?${query}`);
    });
    form.querySelector("[data-clear]").addEventListener("click", () => {
      this.#chosen.clear();
      this.show();
    });
    // The browser gives a page of its history back as it was left.
    window.addEventListener("pageshow", () => this.show());
    this.show();
  }

  /** Tick what is chosen, and say how many there are. */
  show() {
    const full = this.#chosen.size >= MOST_RUNS;
    for (const box of this.#place.querySelectorAll("input[name=run]")) {
      box.checked = this.#chosen.has(box.value);
      box.disabled = full && !box.checked;
    }
    const { size } = this.#chosen;
    const button = this.#form.querySelector("[type=submit]");
    button.hidden = !size;
    this.#form.querySelector("[data-clear]").hidden = !size;
    this.#form.classList.toggle("compare-on", size > 0);
    setText(button.querySelector("[data-slot=text]"), fill(gettext("Compare {count}"), { count: size }));
    const note = full ? fill(gettext("At most {most} runs can be compared."), { most: MOST_RUNS }) : "";
    setText(this.#form.querySelector(".compare-note"), note);
    try {
      sessionStorage.setItem(STORAGE_KEY, JSON.stringify([...this.#chosen]));
    } catch {
      // storage is switched off: the choice lasts for the page
    }
  }

  #toggle(box) {
    if (box.checked && this.#chosen.size < MOST_RUNS) this.#chosen.add(box.value);
    else this.#chosen.delete(box.value);
    this.show();
  }
}

function recall() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "[]");
    return new Set(Array.isArray(kept) ? kept.map(String).slice(0, MOST_RUNS) : []);
  } catch {
    return new Set();
  }
}
