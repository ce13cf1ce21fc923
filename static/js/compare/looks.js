// The look of each run in all charts and lists: colour, dash, whether it is hidden or the pointer is at it.

import { lineColours } from "../shared/palette.js";

export class RunLooks {
  hidden;
  version = 0;
  #near = null;
  #onChange;

  constructor(hidden, onChange) {
    this.hidden = new Set(hidden);
    this.#onChange = onChange;
  }

  /** Return {colour, dash} of the run at `place`: no two of the first 49 share both. */
  lookOf(place) {
    const round = Math.floor(place / lineColours());
    return { colour: place % lineColours(), dash: place + round };
  }

  isShown(id) {
    return !this.hidden.has(id);
  }

  isNear(id) {
    return this.#near === id;
  }

  /** Return whether another run is pointed at. */
  isFaint(id) {
    return this.#near !== null && this.#near !== id;
  }

  toggle(id) {
    if (!this.hidden.delete(id)) this.hidden.add(id);
    this.#touch();
  }

  /** Hide exactly the runs `ids`. */
  hide(ids) {
    this.hidden = new Set(ids);
    this.#touch();
  }

  /** Point at a run, or at none (null). */
  point(id) {
    if (this.#near === id) return;
    this.#near = id;
    this.#touch();
  }

  #touch() {
    this.version += 1;
    this.#onChange();
  }
}
