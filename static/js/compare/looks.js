// The look of each run in all charts and lists: colour, dash, and whether it is hidden, pointed at or selected.

import { lineColours } from "../shared/palette.js";

/** The looks of the compared runs; `version` grows with every change. */
export class RunLooks {
  hidden;
  version = 0;
  #colours;
  #near = null;
  // The ids of the selected runs, null without a selection.
  #selected = null;
  #onChange;
  #onPoint;

  /**
   * `colours` has the number of each run's colour in their order. `hidden` are the ids of hidden runs. `onChange()` is called after runs were hidden or shown, `onPoint()` when the
   * pointer is at another run, which is often, or others are selected.
   */
  constructor(colours, hidden, onChange, onPoint) {
    this.#colours = colours;
    this.hidden = new Set(hidden);
    this.#onChange = onChange;
    this.#onPoint = onPoint;
  }

  /** Return {colour, dash} of the run at index `place`; no two of the first 49 colours have the same pair. */
  lookOf(place) {
    const own = this.#colours[place];
    const round = Math.floor(own / lineColours());
    return { colour: own % lineColours(), dash: own + round };
  }

  /** Return whether a run is not hidden. */
  isShown(id) {
    return !this.hidden.has(id);
  }

  /** Return whether the pointer is at this run. */
  isNear(id) {
    return this.#near === id;
  }

  /** Return whether a run is drawn paler: the pointer is at another run, or others are selected. */
  isFaint(id) {
    return this.#near === null ? !this.isSelected(id) : this.#near !== id;
  }

  /** Return whether a run is selected, or none is. */
  isSelected(id) {
    return !this.#selected || this.#selected.has(id);
  }

  /** Select exactly the runs with these ids; null removes the selection. */
  select(ids) {
    const isSame = ids && this.#selected ? ids.size === this.#selected.size && [...ids].every((id) => this.#selected.has(id)) : ids === this.#selected;
    if (isSame) return;
    this.#selected = ids;
    this.version += 1;
    this.#onPoint();
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
