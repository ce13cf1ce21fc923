// How a run ended, if it ended while the page was open: a short notice in its fixed place, and the rest on request.
//
// The banner and the failure stand above the charts. A page that is loaded afterwards has them there from the start; on
// an open page they would push down what somebody is reading.

import { setHidden, setText } from "../shared/dom.js";

export class Ending {
  #state;
  #root = document.getElementById("ending");
  #notice = document.getElementById("ended-now");
  #text = this.#notice.querySelector("[data-slot=text]");
  #banner = document.getElementById("banner");
  #failure = document.getElementById("failure");
  // Whether the page has shown the run before its end, and whether a person has opened the details since.
  #isLate = false;
  #isOpen = false;

  constructor(state) {
    this.#state = state;
    this.#notice.querySelector("button").addEventListener("click", () => this.#open());
  }

  /** Call after the banner was painted. */
  paint() {
    if (!this.#state.run) return;
    const isOver = !(this.#banner.hidden && this.#failure.hidden);
    if (!isOver) {
      this.#isLate = true;
      this.#isOpen = false;
    }
    const waits = this.#isLate && !this.#isOpen;
    setHidden(this.#root, waits);
    setHidden(this.#notice, !(isOver && waits));
    if (isOver && waits) setText(this.#text, this.#banner.querySelector("[data-slot=text]").textContent);
  }

  #open() {
    this.#isOpen = true;
    this.paint();
    // The end of a text says most; a hidden one could not be scrolled.
    for (const text of this.#failure.querySelectorAll("pre")) text.scrollTop = text.scrollHeight;
    this.#root.focus();
  }
}
