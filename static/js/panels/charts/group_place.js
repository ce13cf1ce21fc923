// A group of charts on the page: a title that folds it, the charts, and a button that shows more.

import { element, setText } from "../../shared/dom.js";
import { fill, gettext } from "../../shared/i18n.js";
import { PINNED } from "./arrangement.js";
import { acceptDrops } from "./ordering.js";
import { groupOrder, groupTitle } from "./series_names.js";

export class GroupPlace {
  isOpen;
  grid = element("div", { class: "chart-grid" });
  #shownAtOnce;
  #limit;
  #count = element("span", { class: "group-count" });
  #more = element("button", { class: "more-charts", type: "button", hidden: true, "data-more": "" });
  #isForced = false;

  /**
   * `shownAtOnce`: how many charts it shows at first, and how many the button adds. `onFold(isOpen)` is called when a
   * person opens or folds it, `onMore()` when they ask for more charts, `onDrop(key, target)` when they drop a chart on
   * another one.
   */
  constructor({ prefix, isOpen, shownAtOnce, resetButton, onFold, onMore, onDrop }) {
    this.isOpen = isOpen;
    this.#limit = this.#shownAtOnce = shownAtOnce;
    const title = element("h2", {
      class: "block-title",
      text: prefix === PINNED ? gettext("Pinned") : groupTitle(prefix),
    });
    const summary = element("summary", {}, title, this.#count, resetButton);
    this.root = element("details", { class: "chart-group", open: isOpen, "data-group": prefix }, summary, this.grid, this.#more);
    this.root.addEventListener("toggle", () => {
      if (this.#isForced || this.root.open === this.isOpen) return;
      this.isOpen = this.root.open;
      onFold(this.isOpen);
    });
    acceptDrops(this.grid, onDrop);
    this.#more.addEventListener("click", () => {
      this.#limit += this.#shownAtOnce;
      onMore();
    });
  }

  /** Insert the group at its position among those of `section`. */
  standIn(section) {
    const { group } = this.root.dataset;
    const after = [...section.querySelectorAll(":scope > .chart-group")].find(
      ({ dataset }) => dataset.group !== PINNED && (group === PINNED || groupOrder(dataset.group, group) > 0),
    );
    section.insertBefore(this.root, after ?? section.querySelector(":scope > .blank"));
  }

  /** Show the charts in `wanted` of `total`; `chartOf` creates one. While `isSearched`, the group is open. */
  show(wanted, total, isSearched, chartOf) {
    this.root.hidden = !wanted.length;
    setText(this.#count, isSearched ? `${wanted.length} / ${total}` : String(total));
    this.#isForced = isSearched;
    const isOpen = isSearched || this.isOpen;
    if (this.root.open !== isOpen) this.root.open = isOpen;
    if (!isOpen) return;
    const shown = wanted.slice(0, this.#limit).map(chartOf);
    // A chart in its right position is not moved, because it would lose the focus.
    shown.forEach((root, place) => {
      if (this.grid.children[place] !== root) this.grid.insertBefore(root, this.grid.children[place] ?? null);
      root.hidden = false;
    });
    for (const root of [...this.grid.children].slice(shown.length)) root.hidden = true;
    const left = wanted.length - shown.length;
    this.#more.hidden = !left;
    const text = gettext("Show {count} more of {total} charts");
    if (left) setText(this.#more, fill(text, { count: Math.min(left, this.#shownAtOnce), total: wanted.length }));
  }
}
