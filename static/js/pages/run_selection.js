// The selected runs of the list. They stay selected while the list is refreshed, filtered and paged.

const STORAGE_KEY = "steersman-selected";
export const MOST_RUNS = 200;

export class RunSelection {
  #place;
  #changed;
  #chosen;
  // The last ticked box: Shift extends the selection from it.
  #last = null;

  /** `place` contains the list; `changed` is called after each change. */
  constructor(place, changed) {
    this.#place = place;
    this.#changed = changed;
    this.#chosen = recall();
    // Only click events have the state of Shift.
    place.addEventListener("click", (event) => {
      const box = event.target;
      if (box.name === "run") this.#tick(box, event.shiftKey);
      else if (box.name === "all-runs") this.#tickAll(box.checked);
    });
    // The browser restores a page from its history with the boxes as they were.
    window.addEventListener("pageshow", () => this.show());
  }

  get runs() {
    return [...this.#chosen];
  }

  /** Tick the selected runs on the current page of the list. */
  show() {
    const boxes = this.#boxes();
    for (const box of boxes) box.checked = this.#chosen.has(box.value);
    const all = this.#place.querySelector("input[name=all-runs]");
    if (all) {
      const ticked = boxes.filter((box) => box.checked).length;
      all.checked = ticked > 0 && ticked === boxes.length;
      all.indeterminate = ticked > 0 && ticked < boxes.length;
    }
    try {
      sessionStorage.setItem(STORAGE_KEY, JSON.stringify(this.runs));
    } catch {
      // storage is switched off: the choice lasts for the page
    }
    this.#changed();
  }

  /** Toggle the focused row by key; with Shift, all rows since the last one. */
  toggleFocused(extend) {
    const box = document.activeElement?.closest?.("tr[data-run]")?.querySelector("input[name=run]");
    if (!box) return;
    box.checked = extend || !box.checked;
    this.#tick(box, extend);
  }

  remove(runs) {
    for (const run of runs) this.#chosen.delete(String(run));
    this.show();
  }

  #boxes() {
    return [...this.#place.querySelectorAll("input[name=run]")];
  }

  #tick(box, extend) {
    const boxes = this.#boxes();
    const from = extend ? boxes.findIndex((other) => other.value === this.#last) : -1;
    const to = boxes.indexOf(box);
    const range = from < 0 ? [box] : boxes.slice(Math.min(from, to), Math.max(from, to) + 1);
    for (const each of range) this.#set(each.value, box.checked);
    this.#last = box.value;
    this.show();
  }

  #tickAll(isChosen) {
    for (const box of this.#boxes()) this.#set(box.value, isChosen);
    this.show();
  }

  #set(run, isChosen) {
    if (!isChosen) this.#chosen.delete(run);
    else if (this.#chosen.size < MOST_RUNS) this.#chosen.add(run);
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
