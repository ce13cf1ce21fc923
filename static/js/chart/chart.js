// One chart: lines with a band from minimum to maximum, a cursor shared by its group, marks for values that are not
// finite.

import uPlot from "uplot";
import { setHidden, setText } from "../shared/dom.js";
import { clock, measure, number, unitOf } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { lineColour, palette } from "../shared/palette.js";
import { xAxisFor } from "./axes.js";
import { altText, AXES, captionOf, latestOf, oddText } from "./captions.js";
import { buildChart, swatchOf } from "./frame.js";
import { showFullscreen } from "./fullscreen.js";
import { handleChartKey, nearestKnown, nearestLine, zoomByPointer } from "./gestures.js";
import { InterventionLayer } from "./intervention_layer.js";
import { drawOffScale } from "./marks/off_scale.js";
import { drawNonfiniteMarks } from "./marks/nonfinite.js";
import { offScale, rangeWithoutOutliers } from "./marks/outliers.js";
import { Legend } from "./legend.js";
import { chartMenu } from "./menu.js";
import { csvOf } from "./saving/csv.js";
import { fileName, savePng, saveText } from "./saving/files.js";
import { svgOf } from "./saving/svg.js";
import { aboveZero, elapsed, paddedLogRange, paddedRange, widenedRange } from "./scales.js";
import { columnsOf, dataOf, plotOptions } from "./uplot_options.js";

const HEIGHT = 190;
const TALL = 380;
const SPEAK_MS = 1000;
// A chart so near to the window counts as visible.
const SEEN_EARLY_PX = 120;
const HIDDEN = { xs: [], means: [], mins: [], maxs: [], banded: false, points: 0 };
const NO_MARKS = { version: () => 0, read: () => [] };

export class Chart {
  #plot = null;
  #shape = "";
  #over = "step";
  #changed = changeDetector();
  #dressed = changeDetector();
  #chosen = changeDetector();
  #drawn = [];
  // [low, high] of the scale if it does not follow the data.
  #limits = null;
  #offScale = [];
  own = { log: null, range: null };
  #ownVersion = 0;
  #width = 0;
  #room = 0;
  #normal;
  #height;
  #spokenAt = -Infinity;
  #late = 0;
  #visible = false;
  #interventions;
  #legend;

  /**
   * `lines`: [{name, label, colour, dash, version(), read(from, to, buckets), extent(), latest()}]. The result of
   * `read` may have `earlier`, the lines of earlier attempts, [{xs, means}], which are drawn paler. `axis` is "step",
   * "time", "machine" or "epoch", and `view` chooses the unit of x for it. `group` shares cursor and zoom; `place`
   * names the run; `height` is in pixels. `marks` {version(), read()} are interventions, [{x, command}]; `buttons` come
   * before the chart's own. Lines may have `isFaint()` and `isHidden()`; `onNear(place)` gets the index of the line at
   * the pointer, null if there is none.
   */
  constructor({
    title,
    axis,
    lines,
    group,
    view,
    place = "",
    height = HEIGHT,
    marks = NO_MARKS,
    onSeen,
    onNear,
    buttons = [],
    menuItems = [],
  }) {
    this.title = title;
    this.axis = axis;
    this.lines = lines;
    this.group = group;
    this.view = view;
    this.source = place;
    this.marks = marks;
    this.#normal = this.#height = height;
    this.#legend = new Legend(lines, swatchOf, onSeen);
    this.parts = buildChart(title, lines, this.#legend.root, buttons, chartMenu(this, menuItems));
    this.root = this.parts.root;
    this.#interventions = new InterventionLayer(this.root, this.parts.place);
    this.onSeen = onSeen;
    this.onNear = onNear;
    this.#listen();
    new ResizeObserver(([entry]) => this.#resize(entry.contentRect)).observe(this.parts.place);
    new IntersectionObserver(
      ([entry]) => {
        this.#visible = entry.isIntersecting;
        if (this.#visible) onSeen();
      },
      { rootMargin: `${SEEN_EARLY_PX}px` },
    ).observe(this.root);
    group.join(this);
  }

  #listen() {
    const { root, full } = this.parts;
    full.addEventListener("click", () => this.#showFullscreen());
    root.addEventListener("keydown", (event) => {
      if (event.target !== root || !this.#plot) return;
      if (!this.#interventions.key(event, this.#plot)) handleChartKey(event, this.#plot, this.#zooming);
    });
    root.addEventListener("blur", () => this.#plot?.setCursor({ left: -10, top: -10 }));
    root.addEventListener("pointerleave", () => this.onNear?.(null));
  }

  get isVisible() {
    return this.#visible && this.#width > 0;
  }

  /** Measure the chart now, because its observers report only after the next frame; return whether it is visible. */
  measure() {
    const { top, bottom } = this.root.getBoundingClientRect();
    this.#visible = bottom > top && bottom > -SEEN_EARLY_PX && top < window.innerHeight + SEEN_EARLY_PX;
    if (this.#visible) this.#resize(this.parts.place.getBoundingClientRect());
    return this.isVisible;
  }

  /** Paint if the chart is visible and something changed; return whether it painted. */
  paint(now) {
    if (!this.isVisible) return false;
    const { group, view, marks } = this;
    const versions = [marks.version(), ...this.lines.map((line) => line.version())];
    if (!this.#changed(group.version, view.version, this.#ownVersion, this.#legend.version, palette.version, this.#width, ...versions)) return false;
    const from = group.zoom ? group.zoom.from : -Infinity;
    const to = group.zoom ? group.zoom.to : Infinity;
    if (this.#dressed(palette.version))
      for (const line of this.lines) line.swatch.setAttribute("stroke", lineColour(line.colour));
    this.#drawn = this.lines.map((line) => (line.isHidden?.() ? HIDDEN : line.read(from, to, Math.max(100, this.#width))));
    const data = dataOf(this.#drawn, view.smoother(), this.#isLog);
    if (!data[0].length) {
      if (this.#plot?.series.length === data.length) this.#plot.setData(data);
      return true;
    }
    this.#limit();
    this.#prepare(data);
    const [min, max] = group.zoom ? [from, to] : widenedRange(data[0][0], data[0].at(-1));
    this.root.dataset.earlier = this.#earlierCount();
    this.#plot.batch(() => {
      this.#plot.setData(data, false);
      this.#plot.setScale("x", { min, max });
    });
    this.#showReading();
    this.#showOdd();
    this.#speakSoon(now);
    return true;
  }

  get #isLog() {
    return this.own.log ?? this.view.log;
  }

  /** If outliers are ignored, set the scale by the other values, and mark the outliers at its edges. */
  #limit() {
    const log = this.#isLog;
    const { range } = this.own;
    const columns = this.#drawn.flatMap(({ means, mins, maxs, banded }) => (banded ? [mins, maxs] : [means]));
    const inside = range || this.view.outliers ? null : rangeWithoutOutliers(log ? columns.map(aboveZero) : columns);
    this.#limits = range ?? (inside && (log ? paddedLogRange : paddedRange)(null, ...inside));
    if (log && this.#limits?.[0] <= 0) this.#limits = null;
    this.#offScale = [];
    if (!this.#limits) return;
    const edges = ({ xs, means, mins, maxs, banded }) =>
      (banded ? [mins, maxs] : [means]).flatMap((values) => offScale(xs, values, ...this.#limits));
    this.#offScale = this.#drawn.flatMap(edges).sort((left, right) => left.x - right.x);
  }

  /** Create a new plot, which a log axis, another x or a smoothed line needs. */
  #prepare(data) {
    const { smoothing, over } = this.view;
    const log = this.#isLog;
    this.#over = xAxisFor(this.axis, over);
    const earlier = this.#drawn.map((one) => one.earlier?.length ?? 0);
    const shape = [log, smoothing > 0, this.#over, ...earlier].join();
    if (this.#plot && shape === this.#shape) return;
    this.#shape = shape;
    this.#plot?.destroy();
    const options = plotOptions({
      size: { width: this.#width, height: this.#height },
      over: this.#over,
      lines: this.lines,
      earlier,
      log,
      smoothing,
      isPercent: this.axis !== "epoch" && this.lines.every((line) => unitOf(line.name) === "%"),
      limits: () => this.#limits,
      group: this.group,
      isVisible: () => this.isVisible,
      hooks: {
        setCursor: [
          () => this.#showReading(),
          (plot) => this.#interventions.read(plot),
          (plot) => this.#tellNear(plot),
        ],
        setSelect: [(plot) => this.#select(plot)],
        draw: [
          (plot) => drawNonfiniteMarks(plot, this.#odd()),
          (plot) => drawOffScale(plot, this.#offScale),
          (plot) => this.#interventions.draw(plot, this.marks.read()),
        ],
      },
    });
    this.#plot = new uPlot(options, data, this.parts.place);
    zoomByPointer(this.#plot, this.#zooming);
  }

  #zooming = {
    zoom: (factor, centre) => {
      const extent = this.#extent();
      if (extent) this.group.zoomBy(factor, centre, extent);
    },
    pan: (distance) => {
      const extent = this.#extent();
      if (extent) this.group.panBy(distance, extent);
    },
    reset: () => this.group.reset(),
  };

  /** Return [first x, last x] of all lines, null if there is no point. */
  #extent() {
    const extents = this.lines.map((line) => line.extent()).filter(Boolean);
    if (!extents.length) return null;
    return [Math.min(...extents.map(([begin]) => begin)), Math.max(...extents.map(([, end]) => end))];
  }

  #earlierCount() {
    return this.#drawn.reduce((sum, drawn) => sum + (drawn.earlier?.length ?? 0), 0);
  }

  #select(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const from = plot.posToVal(left, "x");
    const to = plot.posToVal(left + width, "x");
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (to > from) this.group.zoomTo(from, to, { isFinal: true });
  }

  #showReading() {
    const index = this.#plot?.cursor.idx;
    const read = index !== null && index !== undefined;
    const x = read ? this.#plot.data[0][index] : null;
    const { reading } = this.parts;
    for (const [place, line] of this.lines.entries()) {
      const value = read ? this.#valueAt(line, place, index) : latestOf(line);
      if (this.lines.length > 1) setText(line.value, value);
      else setText(reading, (read ? `${this.#where(x)} · ` : "") + value);
    }
    if (this.lines.length > 1) setText(reading, read ? this.#where(x) : "");
  }

  /**
   * Report the line nearest to the pointer. The whole group shares the cursor, but only the chart under the pointer
   * reports.
   */
  #tellNear(plot) {
    if (!this.onNear || !plot.over.matches(":hover")) return;
    this.onNear(nearestLine(plot, this.lines.length, columnsOf(this.view.smoothing)));
  }

  #valueAt(line, place, cursor) {
    const stride = columnsOf(this.view.smoothing);
    const means = this.#plot.data[place * stride + 1] ?? [];
    const index = this.lines.length > 1 ? nearestKnown(means, cursor) : cursor;
    const column = (offset) => this.#plot.data[place * stride + offset]?.[index] ?? null;
    const mean = measure(line.name, column(1));
    if (this.view.smoothing) {
      return `${measure(line.name, column(4))} (${fill(gettext("raw {value}"), { value: mean })})`;
    }
    const isBand = column(2) !== null && column(2) !== column(3);
    return isBand ? `${mean} (${measure(line.name, column(2))} … ${measure(line.name, column(3))})` : mean;
  }

  #where(x) {
    if (this.#over === "time") return clock(x);
    if (this.#over === "relative") return elapsed(x);
    if (this.#over === "step") return fill(gettext("step {x}"), { x });
    return fill(gettext("epoch {x}"), { x: number(x) });
  }

  #odd() {
    return this.#drawn.flatMap((drawn) => drawn.odd ?? []);
  }

  #showOdd() {
    const odd = this.#odd();
    const { note } = this.parts;
    setHidden(note, !odd.length);
    if (odd.length) setText(note, `▲ ${oddText(odd, (x) => this.#where(x))}`);
  }

  /** Update the text alternative about once per second, and once after the last point. */
  #speakSoon(now) {
    clearTimeout(this.#late);
    const isChosen = this.#chosen(this.group.version, this.view.version);
    if (isChosen || now - this.#spokenAt >= SPEAK_MS) this.#speak(now);
    else this.#late = setTimeout(() => this.#speak(performance.now()), SPEAK_MS);
  }

  #speak(now) {
    this.#spokenAt = now;
    const points = Math.round(this.#drawn.reduce((sum, drawn) => sum + drawn.points, 0));
    const { caption } = this.parts;
    const text = captionOf(this.#drawn, points, this.#isLog, this.#earlierCount(), this.#offScale.length);
    setHidden(caption, !text);
    setText(caption, text);
    this.root.dataset.points = points;
    const label = altText(this.title, this.lines, this.#drawn, points, this.#over, {
      marks: this.#interventions.count,
      earlier: this.#earlierCount(),
      attempt: this.view.attempt,
    });
    this.root.setAttribute("aria-label", label);
  }

  #showFullscreen() {
    showFullscreen(this.root, this.title, (isFull) => {
      this.root.classList.toggle("chart-full", isFull);
      this.parts.full.setAttribute("aria-pressed", String(isFull));
      this.#setHeight(isFull ? this.#room : this.root.classList.contains("chart-tall") ? TALL : this.#normal);
    });
  }

  /** Use the chart's own log axis or range: {log, range}; null follows the page. */
  setOwn(own) {
    this.own = own;
    this.#ownVersion += 1;
    this.onSeen();
  }

  followsLog() {
    return this.view.log;
  }

  resize() {
    this.#setHeight(this.root.classList.toggle("chart-tall") ? TALL : this.#normal);
  }

  /** Return the newest value of each line, with all its digits. */
  values() {
    const texts = this.lines.map((line) => {
      const { value, nonfinite } = line.latest();
      const text = value === null ? number(value, nonfinite) : String(value);
      return this.lines.length > 1 ? `${line.label} ${text}` : text;
    });
    return texts.join("\n");
  }

  savePng() {
    if (this.#plot) savePng(this.#picture(), this.#file("png"));
  }

  saveSvg() {
    if (this.#plot) saveText(this.#picture().svg, "image/svg+xml", this.#file("svg"));
  }

  saveCsv() {
    if (!this.#plot) return;
    const table = csvOf(AXES[this.#over], this.lines, this.#plot.data, columnsOf(this.view.smoothing));
    saveText(table, "text/csv", this.#file("csv"));
  }

  #file(ending) {
    return fileName([this.source, this.title].filter(Boolean).join(" "), ending);
  }

  #picture() {
    const odd = this.#odd().map(({ x, name }) => ({ x, text: number(null, name), colour: palette.odd }));
    const done = this.marks.read().map(({ x }) => ({ x, text: "", colour: palette.mark }));
    const off = this.#offScale.map(({ x, value, isAbove }) => ({ x, text: `${isAbove ? "↑" : "↓"} ${number(value)}`, colour: palette.mark }));
    const { title, source: below, lines } = this;
    return svgOf({ title, below, axis: AXES[this.#over], lines, plot: this.#plot, marks: [...odd, ...done, ...off] });
  }

  #setHeight(height) {
    this.#height = height;
    if (this.#width && height > 0) this.#plot?.setSize({ width: this.#width, height });
  }

  #resize({ width, height }) {
    const whole = Math.floor(width);
    const isFull = this.root.classList.contains("chart-full");
    this.#room = Math.floor(height);
    if (!whole || (whole === this.#width && !(isFull && this.#room !== this.#height))) return;
    this.#width = whole;
    if (isFull) this.#height = this.#room;
    this.#plot?.setSize({ width: whole, height: this.#height });
    this.onSeen();
  }
}
