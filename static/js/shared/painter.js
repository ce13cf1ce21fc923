// One requestAnimationFrame for all painting. A hidden tab gets no frames, so it is painted once when it is shown.

// Each frame with any change costs the browser as much as drawing several charts, so all painting shares frames at this
// interval. The first one after a pause is immediate.
const FRAME_MS = 100;

export class Painter {
  #tasks = [];
  #frame = 0;
  #timer = 0;
  #last = -Infinity;
  #mustWait;

  /** Nothing is painted while `mustWait()` is true. */
  constructor(mustWait = () => false) {
    this.#mustWait = mustWait;
  }

  /** Call `paint(now)` in a frame after each `request`, at most once in `every` ms. */
  add(paint, every = FRAME_MS) {
    this.#tasks.push({ paint, every, last: -Infinity, wanted: true });
  }

  request() {
    for (const task of this.#tasks) task.wanted = true;
    this.#schedule();
  }

  #schedule() {
    if (this.#frame || this.#timer) return;
    const wait = this.#last + FRAME_MS - performance.now();
    if (wait <= 1) this.#frame = requestAnimationFrame((now) => this.#run(now));
    else this.#timer = setTimeout(() => this.#next(), wait);
  }

  #next() {
    this.#timer = 0;
    this.#frame = requestAnimationFrame((now) => this.#run(now));
  }

  #run(now) {
    this.#frame = 0;
    this.#last = now;
    if (this.#mustWait()) {
      this.#schedule();
      return;
    }
    let isLeft = false;
    for (const task of this.#tasks) {
      if (!task.wanted) continue;
      if (task.last + task.every - now > FRAME_MS / 2) {
        isLeft = true;
        continue;
      }
      task.last = now;
      task.wanted = false;
      task.paint(now);
    }
    if (isLeft) this.#schedule();
  }
}

/** Return a function that returns whether any of its arguments changed since the last call. */
export function changeDetector() {
  let before = [];
  return (...now) => {
    const changed = now.length !== before.length || now.some((value, index) => value !== before[index]);
    before = now;
    return changed;
  };
}

// Whether a button or link is being pressed. If its element were replaced before the release, there would be no click.

// A release may be missed, such as one outside of the window.
const LONGEST_MS = 5000;
const PRESSED = "a, button, summary, label";

let pressedAt = -Infinity;

/** Follow the presses on a page. Call once. */
export function watchPresses(root) {
  root.addEventListener(
    "pointerdown",
    (event) => {
      if (event.target.closest?.(PRESSED)) pressedAt = performance.now();
    },
    true,
  );
  // The click follows the release in the same task.
  const release = () => setTimeout(() => (pressedAt = -Infinity));
  for (const kind of ["pointerup", "pointercancel"]) root.addEventListener(kind, release, true);
}

export function isPressing() {
  return performance.now() - pressedAt < LONGEST_MS;
}

/** Wait until nothing is being pressed. */
export async function untilReleased() {
  while (isPressing()) await new Promise((resolve) => setTimeout(resolve, 50));
}
