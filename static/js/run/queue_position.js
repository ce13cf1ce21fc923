// The position of a queued run. It is requested repeatedly while the run waits, because other runs that enter or leave
// the queue send no event to its page.

import { setText } from "../shared/dom.js";
import { getJson } from "../shared/http.js";

const EVERY_MS = 2000;

export class QueuePosition {
  #state;
  #page;
  #line = document.getElementById("place");
  // Only people who may command have this button.
  #startAnyway = document.getElementById("start-anyway");
  #askedAt = -Infinity;
  #asking = false;

  constructor(state, page) {
    this.#state = state;
    this.#page = page;
  }

  /** Request the position of a waiting run now and then; show nothing for other runs. */
  paint(now) {
    const waits = this.#state.run?.state === "queued";
    if (!waits) {
      this.#askedAt = -Infinity;
      if (this.#state.run) this.#show(null);
    } else if (!this.#asking && !document.hidden && now - this.#askedAt >= EVERY_MS) {
      this.#askedAt = now;
      this.#ask();
    }
  }

  async #ask() {
    this.#asking = true;
    try {
      const { place } = await getJson(this.#page.addresses.place, this.#page.addresses.login);
      this.#show(this.#state.run?.state === "queued" ? place : null);
    } catch {
      // keep the old text until the portal answers
    } finally {
      this.#asking = false;
    }
  }

  #show(place) {
    this.#line.hidden = !place;
    setText(this.#line, place ? place.text : "");
    if (this.#startAnyway) this.#startAnyway.hidden = !place?.awaits;
  }
}
