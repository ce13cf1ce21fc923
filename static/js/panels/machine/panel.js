// The machine in one row per GPU, per rank and for the host: each measure with its newest value and a strip of its past.

import { drawStrip } from "../../chart/spark.js";
import { element, setText } from "../../shared/dom.js";
import { fill, gettext } from "../../shared/i18n.js";
import { changeDetector } from "../../shared/painter.js";
import { lineColour, palette } from "../../shared/palette.js";
import { drawable } from "../../state/columns.js";
import { lineOf } from "../../state/series.js";
import { machineRows } from "./devices.js";

const STRIP_POINTS = 120;
const NOTHING = { means: [] };

export class MachinePanel {
  #state;
  #root = document.getElementById("machine-rows");
  #conspicuous = document.getElementById("machine-idle");
  #rows = new Map();
  #keys = "";
  #names = [];
  #isNear = false;
  #changed = changeDetector();

  /** `onNear()` is called when it comes into sight: its series are followed then. */
  constructor(state, onNear) {
    this.#state = state;
    const look = ([{ isIntersecting }]) => {
      this.#isNear = isIntersecting;
      onNear();
    };
    new IntersectionObserver(look, { rootMargin: "200px" }).observe(document.getElementById("machine"));
  }

  /** The names of the series that the rows show, while they are in sight. */
  namesShown() {
    return this.#isNear ? this.#names : [];
  }

  paint() {
    const { series, run, details } = this.#state.versions;
    if (!this.#changed(series, run, details, this.#isNear, palette.version) || (!this.#isNear && this.#keys)) return;
    const { latest, run: ofRun, environment } = this.#state;
    const rows = machineRows(latest, (name) => this.#columns(name).means, ofRun, environment);
    this.#names = rows.flatMap((row) => [...row.cells.map(({ name }) => name), ...alsoOf(row)]);
    const keys = rows.map((row) => [row.title, ...row.cells.map(({ name }) => name)]).join();
    if (keys !== this.#keys) this.#layOut(rows, keys);
    for (const row of rows) this.#show(this.#rows.get(row.id), row);
    setText(this.#conspicuous, ofRun?.group === "live" ? conspicuousText(rows) : "");
  }

  #columns(name) {
    const series = this.#state.series.get(name);
    return series ? lineOf(series) : NOTHING;
  }

  #past(name) {
    const columns = this.#columns(name);
    return columns === NOTHING ? [] : drawable(columns, -Infinity, Infinity, STRIP_POINTS).means;
  }

  #layOut(rows, keys) {
    this.#keys = keys;
    this.#rows.clear();
    this.#root.replaceChildren(...rows.map((row) => this.#make(row)));
    this.#root.hidden = !rows.length;
  }

  #make({ id, title, cells }) {
    const parts = { note: element("p", { class: "machine-note", role: "status" }), cells: [] };
    this.#rows.set(id, parts);
    const shown = cells.map((cell) => {
      const strip = element("canvas", { class: "machine-strip", "aria-hidden": "true" });
      const value = element("span", { class: "machine-value" });
      const part = { strip, value };
      new ResizeObserver(([entry]) => {
        part.size = entry.contentRect;
        part.draw?.();
      }).observe(strip);
      parts.cells.push(part);
      return element("div", { class: "machine-cell" }, element("dt", { text: cell.title }), element("dd", {}, value, strip));
    });
    const head = element("h3", { class: "machine-title", text: title });
    return element("div", { class: "machine-row", "data-testid": "machine-row", "data-device": id }, head, element("dl", {}, ...shown), parts.note);
  }

  #show(parts, { cells, note, isIdle }) {
    cells.forEach(({ name, text, most }, index) => {
      const part = parts.cells[index];
      setText(part.value, text);
      const past = this.#past(name);
      part.draw = () => part.size && drawStrip(part.strip, part.size, past, most, lineColour(0));
      part.draw();
    });
    setText(parts.note, [note, isIdle ? gettext("Idle") : ""].filter(Boolean).join(" "));
  }
}

/** Return the names of the GPUs that are idle, and of the ranks that the others wait for. */
function conspicuousText(rows) {
  const named = (text, some) => (some.length ? fill(text, { names: some.map(({ title }) => title).join(", ") }) : "");
  const idle = named(gettext("Idle: {names}"), rows.filter(({ isIdle }) => isIdle));
  const slow = named(gettext("Slow: {names}"), rows.filter(({ rank, note }) => rank !== undefined && note));
  return [idle, slow].filter(Boolean).join(" · ");
}

function alsoOf({ id }) {
  return id.startsWith("gpu/") ? [`${id}/throttle_reasons`] : [];
}
