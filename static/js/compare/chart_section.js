// A group of charts with a heading that folds it.

import { element, setText } from "../shared/dom.js";

export class ChartSection {
  key;
  root;
  #grid = element("div", { class: "chart-grid" });
  #count = element("span", { class: "group-count" });
  #opensAtFirst;
  #isOpen;

  /** `isOpen` is the state in the address, undefined without one; `onFold()` is called after a click on the heading. */
  constructor({ key, title, open }, isOpen, onFold) {
    this.key = key;
    this.#opensAtFirst = open;
    this.#isOpen = isOpen ?? open;
    const summary = element("summary", {}, element("h2", { class: "block-title", text: title }), this.#count);
    this.root = element("details", { class: "chart-group", open: this.#isOpen, "data-group": title }, summary, this.#grid);
    // A click changes it permanently, a search only while it is active. The click has not changed it yet.
    summary.addEventListener("click", () => {
      this.#isOpen = !this.root.open;
      onFold();
    });
  }

  /** Return whether a person opened or folded it; undefined if it is as at first. */
  get fold() {
    return this.#isOpen === this.#opensAtFirst ? undefined : this.#isOpen;
  }

  /** Contain exactly these elements. Those that are there in this order are not moved. */
  hold(roots) {
    const isSame = roots.length === this.#grid.children.length && roots.every((root, place) => root === this.#grid.children[place]);
    if (!isSame) this.#grid.replaceChildren(...roots);
  }

  /** Show that a search, if there is one, found this number of charts. */
  show(found, isSearch) {
    this.root.hidden = !found;
    this.root.open = isSearch ? found > 0 : this.#isOpen;
    setText(this.#count, String(found));
  }
}
