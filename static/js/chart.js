// One chart: lines with a band from minimum to maximum, a cursor shared by its group, marks for what is not finite.

import uPlot from "uplot";
import { drawMarks } from "./chart_marks.js";
import { compact, percent, roomy, widened } from "./chart_scales.js";
import { element, setText } from "./dom.js";
import { clock, measure, number, unitOf } from "./format.js";
import { faint, lineColour, lineDash, palette } from "./palette.js";
import { changes } from "./paint.js";
import { fill, gettext } from "./text.js";

const HEIGHT = 190;
const TALL = 380;
const FONT = '11px "Inter Variable", system-ui, sans-serif';
const SWATCHES = ["solid", "dashed", "dotted"];

export class Chart {
  #plot = null;
  #changed = changes();
  #drawn = [];
  #width = 0;
  #tall = false;
  #spokenAt = 0;
  #visible = false;

  /**
   * `lines`: [{name, label, colour, dash, version(), read(from, to, buckets), latest()}]; `axis`: "step", "time" or "epoch";
   * `group` shares cursor and zoom.
   */
  constructor({ title, axis, lines, group, onSeen }) {
    this.title = title;
    this.axis = axis;
    this.lines = lines;
    this.group = group;
    this.#build();
    new ResizeObserver(([entry]) => this.#resize(entry.contentRect.width, onSeen)).observe(this.place);
    new IntersectionObserver(
      ([entry]) => {
        this.#visible = entry.isIntersecting;
        if (this.#visible) onSeen();
      },
      { rootMargin: "120px" },
    ).observe(this.root);
    group.join(this);
  }

  #build() {
    this.reading = element("span", { class: "chart-reading" });
    this.place = element("div", { class: "chart-place" });
    this.note = element("p", { class: "chart-note", hidden: true });
    const size = element("button", {
      class: "chart-size",
      type: "button",
      "aria-label": gettext("Larger or smaller"),
      title: gettext("Larger or smaller"),
      text: "⤢",
    });
    size.addEventListener("click", () => {
      this.#tall = this.root.classList.toggle("chart-tall");
      this.#plot?.setSize({ width: this.#width, height: this.#tall ? TALL : HEIGHT });
    });
    this.legend = element("div", { class: "chart-legend", hidden: this.lines.length < 2 });
    for (const line of this.lines) {
      line.value = element("span", { class: "legend-value" });
      line.swatch = element("span", { class: "legend-swatch" });
      line.swatch.style.borderTopStyle = SWATCHES[line.dash % SWATCHES.length];
      this.legend.append(
        element("span", { class: "legend-line" }, line.swatch, element("span", { text: line.label }), line.value),
      );
    }
    const head = element(
      "div",
      { class: "chart-head" },
      element("h3", { class: "chart-title", text: this.title }),
      this.reading,
      size,
    );
    this.root = element(
      "figure",
      {
        class: "card chart-card",
        tabindex: "0",
        "aria-label": this.title,
        "data-testid": "chart",
        "data-series": this.lines.map((line) => line.name).join(" "),
        "data-points": "0",
      },
      head,
      this.legend,
      this.place,
      this.note,
    );
    this.root.addEventListener("keydown", (event) => this.#key(event));
    this.root.addEventListener("blur", () => this.#plot?.setCursor({ left: -10, top: -10 }));
  }

  /** Paint if it can be seen and anything changed. */
  paint(now) {
    if (!this.#visible || !this.#width) return;
    const { zoom, version } = this.group;
    const versions = this.lines.map((line) => line.version());
    if (!this.#changed(version, palette.version, this.#width, ...versions)) return;
    const from = zoom ? zoom.from : -Infinity;
    const to = zoom ? zoom.to : Infinity;
    for (const line of this.lines) line.swatch.style.borderTopColor = lineColour(line.colour);
    this.#drawn = this.lines.map((line) => line.read(from, to, Math.max(100, this.#width)));
    const data = this.#columns();
    if (!data[0].length) return;
    if (!this.#plot) this.#plot = new uPlot(this.#options(), data, this.place);
    const plot = this.#plot;
    const [min, max] = zoom ? [from, to] : widened(data[0][0], data[0].at(-1));
    plot.batch(() => {
      plot.setData(data, false);
      plot.setScale("x", { min, max });
    });
    this.root.dataset.points = Math.round(this.#drawn.reduce((sum, drawn) => sum + drawn.points, 0));
    this.#showReading();
    this.#showOdd();
    this.#speak(now);
  }

  #columns() {
    const tables = this.#drawn.map((drawn) => {
      const none = drawn.banded ? null : new Array(drawn.xs.length).fill(null);
      return [drawn.xs, drawn.means, none ?? drawn.mins, none ?? drawn.maxs];
    });
    if (tables.every((table) => sameXs(table[0], tables[0][0]))) {
      return [tables[0][0], ...tables.flatMap((table) => table.slice(1))];
    }
    return uPlot.join(
      tables,
      tables.map((table) => table.map(() => 1)),
    );
  }

  #options() {
    const series = [{}];
    const bands = [];
    for (const [index, line] of this.lines.entries()) {
      const stroke = () => lineColour(line.colour);
      series.push({ stroke, width: 1.6, dash: lineDash(line.dash), points: { stroke, fill: stroke, size: 5 } });
      series.push(
        { stroke: "transparent", width: 0, points: { show: false } },
        { stroke: "transparent", width: 0, points: { show: false } },
      );
      bands.push({ series: [index * 3 + 3, index * 3 + 2], fill: () => faint(lineColour(line.colour), 0.2) });
    }
    const grid = { stroke: () => palette.grid, width: 1 };
    const axis = { stroke: () => palette.axis, font: FONT, grid, ticks: { show: false } };
    return {
      width: this.#width,
      height: this.#tall ? TALL : HEIGHT,
      padding: [14, this.axis === "time" ? 26 : 12, 0, 0],
      legend: { show: false },
      scales: { x: { time: false }, y: { range: this.#isPercent() ? percent : roomy } },
      series,
      bands,
      axes: [
        { ...axis, size: 28, space: 70, values: (_, splits, __, ___, step) => splits.map((x) => this.#tick(x, step)) },
        { ...axis, size: 54, space: 34, values: (_, splits) => splits.map((y) => number(y)) },
      ],
      cursor: {
        sync: {
          key: this.group.key,
          setSeries: false,
          filters: { pub: (type) => type !== "mousedown" && type !== "mouseup" },
        },
        drag: { x: true, y: false, setScale: false },
        points: { size: 7 },
        y: false,
        bind: { dblclick: () => () => this.group.reset() },
      },
      hooks: {
        setCursor: [() => this.#showReading()],
        setSelect: [(plot) => this.#select(plot)],
        draw: [(plot) => drawMarks(plot, this.#odd())],
      },
    };
  }

  #isPercent() {
    return this.axis === "time" && this.lines.every((line) => unitOf(line.name) === "%");
  }

  #tick(x, step) {
    if (this.axis !== "time") return Number.isInteger(x) ? compact(x) : "";
    const text = clock(x).split(" ").at(-1);
    return step >= 60 ? text.slice(0, 5) : text;
  }

  #select(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const from = plot.posToVal(left, "x");
    const to = plot.posToVal(left + width, "x");
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (to > from) this.group.zoomTo(from, to);
  }

  #showReading() {
    const index = this.#plot?.cursor.idx;
    const read = index !== null && index !== undefined;
    const x = read ? this.#plot.data[0][index] : null;
    for (const [place, line] of this.lines.entries()) {
      const column = (offset) => this.#plot?.data[place * 3 + offset]?.[index] ?? null;
      const latest = line.latest();
      const value = read ? measure(line.name, column(1)) : measure(line.name, latest.value, latest.nonfinite);
      const spread =
        read && column(2) !== null && column(2) !== column(3)
          ? ` (${measure(line.name, column(2))} … ${measure(line.name, column(3))})`
          : "";
      if (this.lines.length > 1) setText(line.value, value + spread);
      else setText(this.reading, (read ? `${this.#where(x)} · ` : "") + value + spread);
    }
    if (this.lines.length > 1) setText(this.reading, read ? this.#where(x) : "");
  }

  #where(x) {
    if (this.axis === "time") return clock(x);
    return this.axis === "epoch" ? fill(gettext("epoch {x}"), { x }) : fill(gettext("step {x}"), { x });
  }

  #odd() {
    return this.#drawn.flatMap((drawn) => drawn.odd ?? []);
  }

  #showOdd() {
    const odd = this.#odd();
    this.note.hidden = !odd.length;
    if (!odd.length) return;
    const named = odd
      .slice(-2)
      .map((entry) =>
        fill(gettext("{value} at {place}"), { value: number(null, entry.name), place: this.#where(entry.x) }),
      );
    const count = this.#drawn.reduce((sum, drawn) => sum + (drawn.oddCount ?? 0), 0);
    const more = count > named.length ? fill(gettext(" and {count} more"), { count: count - named.length }) : "";
    setText(this.note, `▲ ${named.join(", ")}${more}`);
  }

  /** Tell the newest value to those who cannot see the curve, about once a second. */
  #speak(now) {
    if (now - this.#spokenAt < 1000) return;
    this.#spokenAt = now;
    const parts = this.lines.map((line) => {
      const latest = line.latest();
      return `${line.label} ${measure(line.name, latest.value, latest.nonfinite)}`;
    });
    this.root.setAttribute("aria-label", `${this.title}: ${parts.join(", ")}`);
  }

  #key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !this.#plot) return;
    event.preventDefault();
    const xs = this.#plot.data[0];
    const now = this.#plot.cursor.idx ?? xs.length;
    const index = Math.max(0, Math.min(xs.length - 1, now + step));
    const left = this.#plot.valToPos(xs[index], "x");
    this.#plot.setCursor({ left, top: 20 });
  }

  #resize(width, onSeen) {
    const whole = Math.floor(width);
    if (!whole || whole === this.#width) return;
    this.#width = whole;
    this.#plot?.setSize({ width: whole, height: this.#tall ? TALL : HEIGHT });
    onSeen();
  }
}

function sameXs(left, right) {
  return left === right || (left.length === right.length && left[0] === right[0] && left.at(-1) === right.at(-1));
}
