// Pinned charts, hidden charts, folded groups and the order of charts. The portal stores the pins that operators and owners set, for all of
// the project. This browser stores everything else, and the pins that others set.

import { postJson } from "../../shared/http.js";

const STORAGE_KEY = "steersman-charts-of";

export class ChartPreferences {
  version = 0;
  #page;
  #mayShare;
  #shared;
  // What this browser remembers: {folds: {id: isOpen}, hidden: [key], pins: {key: isPinned}, added: {key: [name]},
  // orders: {group: [key]}}.
  #own;
  // The pins in the view of a link, null without one.
  #linked = null;

  /** `mayShare()` returns whether pins are set for the project; `page.pins` are the current ones. */
  constructor(page, mayShare) {
    this.#page = page;
    this.#mayShare = () => Boolean(page.addresses.pins) && mayShare();
    this.#shared = new Set(page.pins);
    this.#own = recalled(this.#place);
  }

  isPinned(key) {
    if (this.#linked) return this.#linked.has(key);
    if (this.#mayShare()) return this.#shared.has(key);
    return this.#own.pins.get(key) ?? this.#shared.has(key);
  }

  /** Show the pins and added series in the view of a link, until a person changes them. */
  follow({ pins, added }) {
    this.#linked = new Set(pins);
    this.#own.added = new Map(Object.entries(added));
    this.version += 1;
  }

  /** Return the names of the series that were added to the chart `key`. */
  addedTo(key) {
    return this.#own.added.get(key) ?? [];
  }

  setAdded(key, names) {
    if (names.length) this.#own.added.set(key, [...new Set(names)]);
    else this.#own.added.delete(key);
    this.version += 1;
    this.#keep();
  }

  /** Return the series added to charts: {key: [name]}. */
  get added() {
    return Object.fromEntries(this.#own.added);
  }

  isHidden(key) {
    return this.#own.hidden.has(key);
  }

  /** Return the keys of the charts of a group in the order in which a person arranged them, [] if nobody did. */
  orderOf(id) {
    return this.#own.orders.get(id) ?? [];
  }

  setOrder(id, keys) {
    this.#own.orders.set(id, keys);
    this.version += 1;
    this.#keep();
  }

  /** Return whether a person opened or folded the group; undefined if nobody did. */
  isOpen(id) {
    return this.#own.folds.get(id);
  }

  setOpen(id, isOpen) {
    this.#own.folds.set(id, isOpen);
    this.#keep();
  }

  setHidden(key, isHidden) {
    if (isHidden) this.#own.hidden.add(key);
    else this.#own.hidden.delete(key);
    this.version += 1;
    this.#keep();
  }

  /** Pin or unpin a chart. Throws `HttpError` if the portal refuses; nothing is then changed. */
  async setPinned(key, isPinned) {
    if (this.#mayShare()) {
      const { pins, login } = this.#page.addresses;
      const told = await postJson(pins, { chart: key, pinned: isPinned }, login);
      this.#shared = new Set(told.pinned);
    } else {
      this.#own.pins.set(key, isPinned);
      this.#keep();
    }
    if (isPinned) this.#linked?.add(key);
    else this.#linked?.delete(key);
    this.version += 1;
  }

  get #place() {
    return `${STORAGE_KEY}-${this.#page.project}`;
  }

  #keep() {
    const { folds, hidden, pins, orders } = this.#own;
    const kept = {
      folds: Object.fromEntries(folds),
      hidden: [...hidden],
      pins: Object.fromEntries(pins),
      added: this.added,
      orders: Object.fromEntries(orders),
    };
    try {
      localStorage.setItem(this.#place, JSON.stringify(kept));
    } catch {
      // storage is switched off or full: the choice lasts for the page
    }
  }
}

function recalled(place) {
  try {
    const kept = JSON.parse(localStorage.getItem(place) ?? "{}");
    const hidden = new Set(listed(kept.hidden));
    return { folds: flags(kept.folds), hidden, pins: flags(kept.pins), added: lists(kept.added), orders: lists(kept.orders) };
  } catch {
    // storage is switched off, or contains something else
    return { folds: new Map(), hidden: new Set(), pins: new Map(), added: new Map(), orders: new Map() };
  }
}

function listed(kept) {
  return Array.isArray(kept) ? kept.filter((name) => typeof name === "string") : [];
}

function lists(kept) {
  return new Map(Object.entries(kept ?? {}).map(([key, names]) => [key, listed(names)]));
}

function flags(kept) {
  return new Map(Object.entries(kept ?? {}).filter(([, value]) => typeof value === "boolean"));
}
