// Cards with the newest values, each with a small curve if there is one.

import { drawSpark } from "../chart/spark.js";
import { element, setText } from "../shared/dom.js";
import { measure } from "../shared/format.js";
import { fill, gettext } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { lineColour, palette } from "../shared/palette.js";
import { drawable } from "../state/columns.js";
import { countedEpochs } from "../state/epochs.js";
import { lineOf } from "../state/series.js";

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

export class Stats {
  #state;
  #root = document.getElementById("stats");
  #cards = new Map();
  #changed = changeDetector();
  #names = [];

  constructor(state) {
    this.#state = state;
  }

  paint() {
    const { versions } = this.#state;
    if (!this.#state.run || !this.#changed(versions.series, versions.epochs, versions.run, palette.version)) return;
    const values = this.#values();
    const keys = values.map((value) => value.title).join();
    if (this.#root.dataset.keys !== keys) this.#layOut(values, keys);
    this.#names = values.map((value) => value.name);
    for (const value of values) this.#show(this.#cards.get(value.title), value);
  }

  /** Return the names of the series that cards show. */
  namesShown() {
    return this.#names;
  }

  #values() {
    const values = [];
    const used = new Set();
    for (const wanted of CARDS) {
      const found = this.#ofEpochs(wanted) ?? this.#ofSeries(wanted, wanted.series, used);
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
    if (!name) return null;
    used.add(name);
    const latest = this.#state.latest[name];
    const series = this.#state.series.get(name);
    const curve = series ? drawable(lineOf(series), -Infinity, Infinity, SPARK_POINTS).means : [];
    return {
      title,
      testid,
      name,
      text: measure(name, latest.value, latest.nonfinite),
      odd: Boolean(latest.nonfinite),
      curve,
      below: fill(gettext("step {x}"), { x: latest.step }),
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
      colour: 1,
    };
  }

  #layOut(values, keys) {
    this.#root.dataset.keys = keys;
    this.#cards.clear();
    this.#root.replaceChildren();
    if (!values.length) this.#root.hidden = true;
    else this.#root.hidden = false;
    for (const { title, testid } of values) {
      const card = {
        value: element("span", { class: "stat-value", "data-testid": testid }),
        below: element("span", { class: "stat-below" }),
        spark: element("canvas", { class: "stat-spark", "aria-hidden": "true" }),
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
        ),
      );
    }
  }

  #show(card, { text, below, curve, odd, colour = 0 }) {
    setText(card.value, text);
    setText(card.below, below);
    card.value.classList.toggle("odd-value", odd);
    card.draw = () => card.size && drawSpark(card.spark, card.size, curve, lineColour(colour));
    card.draw();
  }
}
