// The look of each run in all charts and lists: colour, dash, and whether it is hidden or pointed at.

import { lineColours } from "../shared/palette.js";

/** The looks of the compared runs; `version` grows with every change. */
export class RunLooks {
  hidden;
  version = 0;
  #near = null;
  #onChange;
  #onPoint;

  /**
   * `hidden` are the ids of hidden runs. `onChange()` is called after runs were hidden or shown, `onPoint()` when the
   * pointer is at another run, which is often.
   */
  constructor(hidden, onChange, onPoint) {
    this.hidden = new Set(hidden);
    this.#onChange = onChange;
    this.#onPoint = onPoint;
  }

  /** Return {colour, dash} of the run at index `place`; no two of the first 49 have the same pair. */
  lookOf(place) {
    const round = Math.floor(place / lineColours());
    return { colour: place % lineColours(), dash: place + round };
  }

  /** Return whether a run is not hidden. */
  isShown(id) {
    return !this.hidden.has(id);
  }

  /** Return whether the pointer is at this run. */
  isNear(id) {
    return this.#near === id;
  }

  /** Return whether the pointer is at another run, so that this one is drawn paler. */
  isFaint(id) {
    return this.#near !== null && this.#near !== id;
  }

  /** Hide a run, or show it again. */
  toggle(id) {
    if (!this.hidden.delete(id)) this.hidden.add(id);
    this.version += 1;
    this.#onChange();
  }

  /** Hide exactly the runs with these ids. */
  hide(ids) {
    this.hidden = new Set(ids);
    this.version += 1;
    this.#onChange();
  }

  /** Set the run that the pointer is at; null for none. */
  point(id) {
    if (this.#near === id) return;
    this.#near = id;
    this.version += 1;
    this.#onPoint();
  }
}
