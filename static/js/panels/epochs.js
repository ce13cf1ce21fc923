// Epochs: training and validation in one chart per metric, and the table, newest first.

import { Chart } from "../chart/chart.js";
import { ChartGroup } from "../chart/group.js";
import { element, icon } from "../shared/dom.js";
import { duration, halfName, measure, readableName } from "../shared/format.js";
import { gettext } from "../shared/i18n.js";
import { naturalOrder } from "../shared/natural_order.js";
import { changeDetector } from "../shared/painter.js";
import { countedEpochs, epochCurve, epochNames, newestOfEpochs } from "../state/epochs.js";
import { colourOf } from "../state/series_colour.js";

const PAIR = /^(train|validation|val)_(.+)$/;
const FIRST_COLUMNS = [
  "train_loss",
  "train_accuracy",
  "validation_loss",
  "validation_accuracy",
  "learning_rate",
  "samples_per_second",
];

export class Epochs {
  #state;
  #onSeen;
  #grid = document.getElementById("epoch-charts");
  #table = document.getElementById("epoch-table");
  #charts = new Map();
  #group;
  #page;
  #view;
  #marks;
  #changed = changeDetector();

  /** `marks` are the interventions, over epochs. */
  constructor(state, page, view, marks, onSeen) {
    this.#state = state;
    this.#page = page;
    this.#view = view;
    this.#marks = marks;
    this.#onSeen = onSeen;
    this.#group = new ChartGroup({ onChange: onSeen, mapping: () => null });
    document.getElementById("epochs-title").after(this.#group.resetButton());
  }

  resetZoom() {
    this.#group.reset();
  }

  paint(now) {
    if (this.#changed(this.#state.versions.epochs, this.#view.attempt)) {
      this.#layOut();
      this.#fillTable();
    }
    for (const chart of this.#charts.values()) chart.paint(now);
  }

  /** Return the epochs that count, as the chosen attempt left them. */
  get #epochs() {
    return countedEpochs(this.#state.epochs, this.#view.attempt);
  }

  #names() {
    const names = new Set(epochNames(this.#state.epochs));
    return [...FIRST_COLUMNS.filter((name) => names.delete(name)), ...[...names].sort(naturalOrder)];
  }

  #layOut() {
    if (!this.#state.epochs.length) return;
    const measures = new Map();
    for (const name of this.#names()) {
      const base = PAIR.exec(name)?.[2] ?? name;
      measures.set(base, [...(measures.get(base) ?? []), name]);
    }
    for (const [base, names] of measures) {
      const known = this.#charts.get(base);
      if (known?.lines.length === names.length) continue;
      const chart = new Chart({
        title: readableName(base),
        axis: "epoch",
        group: this.#group,
        view: this.#view,
        place: `${this.#page.name} #${this.#page.run}`,
        marks: this.#marks,
        onSeen: this.#onSeen,
        lines: names.map((name) => this.#line(name, names.length)),
      });
      if (known) known.root.replaceWith(chart.root);
      else this.#grid.append(chart.root);
      this.#charts.set(base, chart);
    }
  }

  #line(name, lines) {
    const [, part, base] = PAIR.exec(name) ?? [];
    const colour = colourOf(name, "step");
    return {
      name,
      colour,
      dash: lines > 1 ? colour : 0,
      label: part ? halfName(base, part === "train" ? "training" : "validation") : readableName(name),
      version: () => this.#state.versions.epochs,
      latest: () => newestOfEpochs(this.#state.epochs, this.#view.attempt, name),
      extent: () => {
        const { epochs } = this.#state;
        return epochs.length ? [epochs[0].epoch, epochs.at(-1).epoch] : null;
      },
      read: () => epochCurve(this.#state.epochs, this.#view.attempt, name, ({ epoch }) => epoch),
    };
  }

  #fillTable() {
    const epochs = this.#epochs;
    if (!epochs.length) {
      this.#table.replaceChildren(element("p", { class: "none", text: gettext("No epoch was completed.") }));
      return;
    }
    const names = this.#names();
    const attempts = new Set(epochs.map((row) => row.attempt)).size > 1;
    const head = element(
      "tr",
      {},
      element("th", { scope: "col", text: gettext("Epoch") }),
      attempts ? element("th", { scope: "col", text: gettext("Attempt") }) : null,
    );
    for (const name of [...names.map(readableName), gettext("Duration")])
      head.append(element("th", { scope: "col", class: "num", text: name }));
    const body = element("tbody");
    for (const row of epochs.toReversed()) body.append(tableRow(row, names, attempts));
    this.#table.replaceChildren(
      element("table", { class: "table table-vcenter epoch-table" }, element("thead", {}, head), body),
    );
  }
}

function tableRow(row, names, attempts) {
  const first = element("th", { scope: "row" }, String(row.epoch));
  if (row.best) first.append(element("span", { class: "best-mark" }, icon("star"), gettext("best")));
  const line = element(
    "tr",
    { class: row.best ? "best-row" : null, "data-epoch": row.epoch, "data-testid": "epoch-row" },
    first,
  );
  if (attempts) line.append(element("td", { text: String(row.attempt) }));
  for (const name of names) {
    const odd = row.nonfinite[name];
    line.append(element("td", { class: odd ? "num odd-value" : "num", text: measure(name, row.values[name], odd) }));
  }
  line.append(element("td", { class: "num", text: duration(row.duration_s) }));
  return line;
}
