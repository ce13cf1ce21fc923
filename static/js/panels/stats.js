// Cards with the newest values, each with a small curve if there is one: the training loss, then what was pinned, then
// what people look for first. The star of a card pins the chart of its series.

import { drawSpark } from "../chart/spark.js";
import { element, icon, setText, toast } from "../shared/dom.js";
import { clock, measure } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { lineColour, palette } from "../shared/palette.js";
import { drawable } from "../state/columns.js";
import { countedEpochs } from "../state/epochs.js";
import { lineOf } from "../state/series.js";
import { colourOf } from "../state/series_colour.js";

const MOST_CARDS = 6;
const SPARK_POINTS = 120;
// The metrics that people look for first; each entry lists the names under which it may be logged.
const CARDS = [
  { title: gettext("Training loss"), series: ["train/loss", "loss"], testid: "loss" },
  { title: gettext("Training accuracy"), series: ["train/accuracy", "accuracy"] },
  { title: gettext("Validation loss"), epoch: ["validation_loss", "val_loss"], series: ["validation/loss"] },
  {
    title: gettext("Validation accuracy"),
    epoch: ["validation_accuracy", "val_accuracy"],
    series: ["validation/accuracy"],
  },
  {
    title: gettext("Learning rate"),
    series: ["optimizer/learning_rate", "train/learning_rate", "learning_rate"],
  },
  {
    title: gettext("Samples per second"),
    series: ["speed/samples_per_second", "train/samples_per_second", "samples_per_second"],
  },
];

// The cards that have a title of their own, by the names of their series.
const TITLED = new Map(CARDS.flatMap((card) => card.series.map((name) => [name, card])));

export class Stats {
  #state;
  #root = document.getElementById("stats");
  #cards = new Map();
  #changed = changeDetector();
  #layoutChanged = changeDetector();
  #names = [];
  #preferences;
  #machineChartsOf;
  // Sorting them takes long with hundreds of devices.
  #machineCharts = [];
  #onPin;
  // The series whose star has the focus once the cards are laid out anew.
  #focused = "";

  /** `preferences` {version, isPinned(key), setPinned(key, isPinned)} are those of the charts; `machineChartsOf(series)`
   * returns the charts of the machine as [{key, names}]; `onPin()` follows a change. */
  constructor(state, preferences, machineChartsOf, onPin) {
    this.#state = state;
    this.#preferences = preferences;
    this.#machineChartsOf = machineChartsOf;
    this.#onPin = onPin;
  }

  paint() {
    const { versions } = this.#state;
    if (!this.#state.run || !this.#changed(versions.series, versions.epochs, versions.run, palette.version, this.#preferences.version)) return;
    if (this.#layoutChanged(versions.layout)) this.#machineCharts = this.#machineChartsOf(this.#state.series);
    const values = this.#values();
    const keys = values.map((value) => value.title).join();
    if (this.#root.dataset.keys !== keys) this.#layOut(values, keys);
    this.#names = values.flatMap((value) => value.names ?? [value.name]);
    for (const value of values) this.#show(this.#cards.get(value.title), value);
    if (this.#focused) this.#cards.get(values.find(({ pins }) => pins === this.#focused)?.title)?.star.focus();
    this.#focused = "";
  }

  /** Return the names of the series that cards show. */
  namesShown() {
    return this.#names;
  }

  #values() {
    const values = [];
    const used = new Set();
    const [loss, ...others] = CARDS.map((wanted) => () => this.#ofEpochs(wanted) ?? this.#ofSeries(wanted, wanted.series, used));
    const pinned = [...this.#state.series.values()]
      .filter(({ name, axis }) => axis === "step" && this.#preferences.isPinned(name))
      .map(({ name }) => () => this.#ofSeries(TITLED.get(name) ?? { title: name }, [name], used));
    const machine = this.#machineCharts
      .filter(({ key }) => this.#preferences.isPinned(key))
      .map((chart) => () => this.#ofMachine(chart));
    for (const card of [loss, ...pinned, ...machine, ...others]) {
      const found = values.length < MOST_CARDS ? card() : null;
      if (found) values.push(found);
    }
    for (const [name, series] of this.#state.series) {
      if (values.length >= MOST_CARDS) break;
      if (series.axis === "step" && !used.has(name))
        values.push(this.#ofSeries({ title: name }, [name], used));
    }
    return values.filter(Boolean).slice(0, MOST_CARDS);
  }

  #ofSeries({ title, testid }, names, used) {
    const name = names.find((one) => this.#state.latest[one]);
    if (!name || used.has(name)) return null;
    used.add(name);
    const latest = this.#state.latest[name];
    const series = this.#state.series.get(name);
    const curve = series ? drawable(lineOf(series), -Infinity, Infinity, SPARK_POINTS).means : [];
    return {
      title,
      testid,
      name,
      pins: name,
      text: measure(name, latest.value, latest.nonfinite),
      odd: Boolean(latest.nonfinite),
      curve,
      colour: colourOf(name, "step"),
      below: fill(gettext("step {x}"), { x: latest.step }),
    };
  }

  /** Return the card of a chart of the machine: of several devices, the lowest and the highest value. */
  #ofMachine({ key, names }) {
    const points = names.map((name) => ({ name, ...this.#state.latest[name] })).filter(({ value }) => Number.isFinite(value));
    if (!points.length) return null;
    points.sort((left, right) => left.value - right.value);
    const [lowest, highest] = [points[0], points.at(-1)].map(({ name, value }) => measure(name, value));
    const series = points.length === 1 ? this.#state.series.get(points[0].name) : null;
    return {
      title: key,
      // Only a curve needs points as they arrive.
      names: series ? [points[0].name] : [],
      pins: key,
      text: lowest === highest ? lowest : `${lowest} – ${highest}`,
      odd: false,
      curve: series ? drawable(lineOf(series), -Infinity, Infinity, SPARK_POINTS).means : [],
      colour: colourOf(points[0].name, "time"),
      below: clock(Math.max(...points.map(({ time }) => time))),
    };
  }

  #ofEpochs({ title, epoch }) {
    const epochs = countedEpochs(this.#state.epochs);
    const name = epoch?.find((one) => epochs.some((row) => one in row.values));
    if (!name) return null;
    const rows = epochs.filter((row) => name in row.values);
    const last = rows.at(-1);
    const finite = rows.map((row) => row.values[name]).filter((value) => value !== null);
    const lowest = name.endsWith("loss");
    const extreme = lowest ? Math.min(...finite) : Math.max(...finite);
    // The best epoch is chosen by one metric, shown in its row: other metrics may have better values elsewhere.
    const text = lowest ? gettext("lowest {value}") : gettext("highest {value}");
    const below = finite.length ? fill(text, { value: measure(name, extreme) }) : "";
    return {
      title,
      name,
      text: measure(name, last.values[name], last.nonfinite[name]),
      odd: Boolean(last.nonfinite[name]),
      curve: rows.map((row) => row.values[name]),
      below,
      colour: colourOf(name, "step"),
    };
  }

  #layOut(values, keys) {
    this.#root.dataset.keys = keys;
    this.#cards.clear();
    this.#root.replaceChildren();
    if (!values.length) this.#root.hidden = true;
    else this.#root.hidden = false;
    for (const { title, testid, pins } of values) {
      const card = {
        value: element("span", { class: "stat-value", "data-testid": testid }),
        below: element("span", { class: "stat-below" }),
        spark: element("canvas", { class: "stat-spark", "aria-hidden": "true" }),
        star: pins ? this.#star(pins) : null,
      };
      // Reading an element's size after each change of text would force a new layout.
      new ResizeObserver(([entry]) => {
        card.size = entry.contentRect;
        card.draw?.();
      }).observe(card.spark);
      this.#cards.set(title, card);
      this.#root.append(
        element(
          "div",
          { class: "card stat" },
          element("span", { class: "stat-title", text: title }),
          card.value,
          card.below,
          card.spark,
          card.star,
        ),
      );
    }
  }

  #star(name) {
    const star = element("button", { class: "chart-button chart-star stat-star", type: "button", "data-testid": "pin-card" });
    star.addEventListener("click", async () => {
      try {
        await this.#preferences.setPinned(name, !this.#preferences.isPinned(name));
        // The cards are laid out anew, in another order.
        this.#focused = name;
        this.#onPin();
      } catch (error) {
        toast(error.message, "danger");
      }
    });
    return star;
  }

  #showStar(star, name) {
    const isPinned = this.#preferences.isPinned(name);
    if (star.getAttribute("aria-pressed") === String(isPinned)) return;
    star.setAttribute("aria-pressed", String(isPinned));
    star.replaceChildren(icon(isPinned ? "star" : "unpinned"));
    star.title = fill(isPinned ? gettext("Unpin the card {name}") : gettext("Pin the card {name}"), { name });
    star.setAttribute("aria-label", star.title);
  }

  #show(card, { text, below, curve, odd, pins, colour }) {
    if (card.star) this.#showStar(card.star, pins);
    setText(card.value, text);
    setText(card.below, below);
    card.value.classList.toggle("odd-value", odd);
    card.draw = () => card.size && drawSpark(card.spark, card.size, curve, lineColour(colour));
    card.draw();
  }
}
