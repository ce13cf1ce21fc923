// Tracks which charts are visible, or at most a screen's height away.

const MARGIN = "100% 0px";

export class Nearness {
  #charts = new Map();
  #near = new Set();
  #observer = new IntersectionObserver((entries) => this.#note(entries), { rootMargin: MARGIN });

  add(chart) {
    this.#charts.set(chart.root, chart);
    this.#observer.observe(chart.root);
  }

  remove(chart) {
    this.#charts.delete(chart.root);
    this.#near.delete(chart);
    this.#observer.unobserve(chart.root);
  }

  /** Return the names of the lines of the near charts. */
  names() {
    return [...this.#near].flatMap((chart) => chart.lines.map((line) => line.name));
  }

  #note(entries) {
    for (const { target, isIntersecting } of entries) {
      const chart = this.#charts.get(target);
      if (chart && isIntersecting) this.#near.add(chart);
      else this.#near.delete(chart);
    }
  }
}
