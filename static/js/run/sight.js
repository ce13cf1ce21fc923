// Sends the portal the series that the page shows, if a run has many, and loads the earlier points of series that come
// into sight.

import { getJson } from "../shared/http.js";
import { bucketsEach } from "../state/series.js";
import { fill, look, waitingSeries } from "../state/sight.js";

// For a run with fewer series, all points are sent, because a selection would cost more than it saves.
const MOST_IN_FULL = 64;
// The maximum that the portal accepts.
const MOST_IN_SIGHT = 256;
const LOOK_EVERY_MS = 300;
// The time that a page needs to arrange its charts after the greeting.
const SETTLE_MS = 1000;
// The maximum number of names in one request, and the maximum length of its query.
const MOST_AT_ONCE = 64;
const LONGEST_QUERY = 4000;
const MOST_ROWS = 1000;
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 30_000;

export class Sight {
  #state;
  #page;
  #socket;
  #shown;
  #onFilled;
  #asked = null;
  #settled = Infinity;
  #wait = FIRST_RETRY_MS;
  #again = 0;

  /** `shown()` returns the names of the series that the page shows now; `onFilled()` requests a paint. */
  constructor(state, page, socket, { shown, onFilled }) {
    this.#state = state;
    this.#page = page;
    this.#socket = socket;
    this.#shown = shown;
    this.#onFilled = onFilled;
    setInterval(() => this.#look(), LOOK_EVERY_MS);
    document.addEventListener("visibilitychange", () => this.#look());
  }

  /** Start again, because a new connection begins with all series. */
  greeted() {
    this.#asked = null;
    this.#settled = performance.now() + SETTLE_MS;
  }

  /** Load the earlier points of the series that came into sight, after the portal's answer. */
  taken() {
    for (const names of batches(waitingSeries(this.#state))) this.#read(names);
  }

  #look() {
    const { series, sight } = this.#state;
    if (performance.now() < this.#settled || (sight === null && countedSteps(series) <= MOST_IN_FULL)) return;
    const shown = document.hidden ? [] : [...new Set(this.#shown())].filter((name) => series.has(name));
    const names = shown.slice(0, MOST_IN_SIGHT).sort();
    const asked = JSON.stringify(names);
    if (asked === this.#asked || !this.#socket.look(names)) return;
    this.#asked = asked;
    look(this.#state, new Set(names));
  }

  async #read(names) {
    const query = new URLSearchParams({ by_attempt: true, buckets: Math.min(MOST_ROWS, bucketsEach(this.#state.series.size)) });
    for (const name of names) query.append("name", name);
    try {
      fill(this.#state, await getJson(`${this.#page.addresses.points}?${query}`, this.#page.addresses.login), names);
      this.#onFilled();
      this.#wait = FIRST_RETRY_MS;
    } catch {
      // The charts show what they have meanwhile.
    }
    if (names.some((name) => this.#state.series.get(name)?.waiting)) this.#askAgain();
  }

  /** Send the selection again later: the answer names a newer event, so that few points have to wait. */
  #askAgain() {
    clearTimeout(this.#again);
    this.#again = setTimeout(() => {
      for (const name of waitingSeries(this.#state)) this.#state.series.get(name).waiting = null;
      this.#asked = null;
      this.#look();
    }, this.#wait);
    this.#wait = Math.min(LONGEST_RETRY_MS, 2 * this.#wait);
  }
}

function countedSteps(series) {
  let count = 0;
  for (const { axis } of series.values()) count += axis === "step";
  return count;
}

/** Return the names in batches that fit into one address each. */
export function batches(names) {
  const lists = [];
  let left = 0;
  for (const name of names) {
    const length = encodeURIComponent(name).length + "&name=".length;
    if (!lists.length || lists.at(-1).length === MOST_AT_ONCE || length > left) {
      lists.push([]);
      left = LONGEST_QUERY;
    }
    lists.at(-1).push(name);
    left -= length;
  }
  return lists;
}
