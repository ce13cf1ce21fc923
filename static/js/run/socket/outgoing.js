// The commands of this page that are not stored yet. One at a time is on its way, so that they are stored in the order
// in which they were given, also if the portal has to be asked again. Only what ends a training does not wait for others.
// Pure except for its timer.

// The portal itself waits about two seconds for a busy database.
const AGAIN_MS = 1000;
export const LONGEST_BUSY_MS = 120_000;
const URGENT = new Set(["stop", "end_process"]);

export class Outgoing {
  #send;
  #clock;
  // By id: the payload, and the time of the first refusal.
  #waiting = new Map();
  #timer = null;

  /** `send(payload)` sends a command if there is a connection; `clock` has `now()`, `start(act, ms)` and `stop(timer)`. */
  constructor(send, clock = CLOCK) {
    this.#send = send;
    this.#clock = clock;
  }

  /**
   * Send a command after those before it, an urgent one at once. It is sent again until `settle(id)`, which is safe
   * because of its id.
   */
  put(payload) {
    this.#waiting.set(payload.id, { payload, busySince: null });
    if (this.#waiting.size === 1 || URGENT.has(payload.command)) this.#send(payload);
  }

  /** Send the oldest command and all urgent ones now, for example over a new connection; repeating them is safe. */
  sendFirst() {
    this.#clock.stop(this.#timer);
    [...this.#waiting.values()].forEach(({ payload }, place) => {
      if (place === 0 || URGENT.has(payload.command)) this.#send(payload);
    });
  }

  /** Send no more of a command, because it was stored, refused or withdrawn. */
  settle(id) {
    const [first] = this.#waiting.keys();
    this.#waiting.delete(id);
    if (id === first) this.sendFirst();
  }

  /** Send a command again in a moment, because the database is busy; return false if it was busy for too long. */
  postpone(id) {
    const command = this.#waiting.get(id);
    if (!command) return false;
    const now = this.#clock.now();
    command.busySince ??= now;
    if (now - command.busySince >= LONGEST_BUSY_MS) return false;
    this.#clock.stop(this.#timer);
    this.#timer = this.#clock.start(() => this.sendFirst(), AGAIN_MS);
    return true;
  }
}

const CLOCK = {
  now: () => performance.now(),
  start: (act, ms) => setTimeout(act, ms),
  stop: (timer) => clearTimeout(timer),
};
