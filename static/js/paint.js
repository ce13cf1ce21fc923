// One requestAnimationFrame for all painting. A hidden tab gets no frames, so it catches up in one paint when shown.

export class Painter {
  #tasks = [];
  #frame = 0;
  #timer = 0;

  /** Call `paint(now)` in a frame after each `request`, at most once in `every` ms. */
  add(paint, every = 0) {
    this.#tasks.push({ paint, every, last: -Infinity, wanted: true });
  }

  request() {
    for (const task of this.#tasks) task.wanted = true;
    this.#schedule();
  }

  #schedule() {
    if (!this.#frame) this.#frame = requestAnimationFrame((now) => this.#run(now));
  }

  #run(now) {
    this.#frame = 0;
    let wait = Infinity;
    for (const task of this.#tasks) {
      if (!task.wanted) continue;
      const left = task.last + task.every - now;
      if (left > 1) {
        wait = Math.min(wait, left);
        continue;
      }
      task.last = now;
      task.wanted = false;
      task.paint(now);
    }
    if (wait === Infinity) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#schedule(), wait);
  }
}

/** Return a function that says whether any of the given values changed since its last call. */
export function changes() {
  let before = [];
  return (...now) => {
    const changed = now.length !== before.length || now.some((value, index) => value !== before[index]);
    before = now;
    return changed;
  };
}
