import assert from "node:assert/strict";
import { test } from "node:test";

import { knowsEpochs, mapping, xAxisFor } from "../../static/js/chart/axes.js";
import { ChartView } from "../../static/js/chart/view.js";
import { oddText } from "../../static/js/chart/captions.js";
import { aboveZero, elapsed, logSplits, notAboveZero, paddedLogRange, paddedRange, valueLabels } from "../../static/js/chart/scales.js";
import { sparkHeights } from "../../static/js/chart/spark.js";
import { byImportance, groupOrder, groupTitle, isFoldedAtFirst } from "../../static/js/panels/charts/series_names.js";
import { naturalOrder } from "../../static/js/shared/natural_order.js";
import { columnsFromChart, drawable } from "../../static/js/state/columns.js";
import { addPoints, emptySeries, lineOf, seriesFromCharts } from "../../static/js/state/series.js";
import { offScale, rangeWithoutOutliers } from "../../static/js/chart/marks/outliers.js";
import { csvOf } from "../../static/js/chart/saving/csv.js";
import { fileName } from "../../static/js/chart/saving/files.js";
import { smoothed, spanOf } from "../../static/js/chart/smoothing.js";

const UNKNOWN = { start: null, stepsPerEpoch: null, epochs: [] };

test("it smooths without drawing the first values towards zero", () => {
  assert.deepEqual(smoothed([4, 4, 4], 0.9), [4, 4, 4]);
  assert.deepEqual(smoothed([1, 3], 0), [1, 3]);
  const [first, second] = smoothed([1, 3], 0.5);
  assert.equal(first, 1);
  assert.ok(Math.abs(second - 7 / 3) < 1e-12);
});

test("it leaves gaps where a curve has them", () => {
  assert.deepEqual(smoothed([2, null, 2, undefined], 0.5), [2, null, 2, undefined]);
});

test("it smooths by the mean of the points around, and by a Gaussian, and no spike spoils what lies further away", () => {
  assert.equal(spanOf(0.5), 3);
  assert.deepEqual(smoothed([0, 3, 6, 30, 6], 0.5, "mean"), [1.5, 3, 13, 14, 18]);
  assert.deepEqual(smoothed([1, null, 3], 0.5, "mean"), [1, null, 3]);
  const spiked = [...new Array(50).fill(0.1), 1e30, ...new Array(50).fill(0.1)];
  for (const kind of ["mean", "gaussian"]) {
    const curve = smoothed(spiked, 0.8, kind);
    assert.ok(Math.abs(curve[0] - 0.1) < 1e-12 && Math.abs(curve.at(-1) - 0.1) < 1e-12, kind);
    assert.ok(curve[50] > 1e28, kind);
  }
  const bell = smoothed([0, 0, 0, 0, 1, 0, 0, 0, 0], 0.5, "gaussian");
  assert.ok(bell[4] > bell[3] && bell[3] > bell[2] && bell[2] > 0);
  assert.ok(Math.abs(bell[3] - bell[5]) < 1e-12);
});

test("it leaves outliers off the scale, and tells which they are", () => {
  const values = Array.from({ length: 100 }, (_, place) => 1 + place / 100);
  assert.equal(rangeWithoutOutliers([values]), null);
  const spiked = values.with(30, 900).with(60, -50).with(70, null);
  assert.deepEqual(rangeWithoutOutliers([spiked]), [1, 1.99]);
  const xs = values.map((_, place) => place);
  assert.deepEqual(offScale(xs, spiked, 1, 1.99), [
    { x: 30, value: 900, isAbove: true },
    { x: 60, value: -50, isAbove: false },
  ]);
  // A flat line with a step has no outliers, because it has no spread to measure them by.
  assert.equal(rangeWithoutOutliers([new Array(99).fill(2).concat(5)]), null);
});

test("it writes what a chart draws as a table, without columns that have nothing, and no formula", () => {
  const lines = [{ name: "train/loss" }, { name: '=a "b"' }];
  const none = [null, null];
  const data = [[1, 2], [0.5, 0.25], [0.4, 0.2], [0.6, 0.3], [7, undefined], none, none];
  assert.equal(
    csvOf("step", lines, data, 3),
    'step,train/loss,train/loss min,train/loss max,"\'=a ""b"""\r\n1,0.5,0.4,0.6,7\r\n2,0.25,0.2,0.3,\r\n',
  );
});

test("a file is named after what it shows, without what names cannot hold", () => {
  assert.equal(fileName("run #7 train/loss", "svg"), "run-7-train-loss.svg");
});

test("it draws flat what differs by rounding alone", () => {
  const [low, high] = paddedRange(null, 0.3, 0.3 + 1e-9);
  assert.ok(low < 0.28 && high > 0.32);
  const [narrow, wide] = paddedRange(null, 0.3, 0.3003);
  assert.ok(narrow > 0.2999 && wide < 0.3004);
  const [below, above] = paddedLogRange(null, 5, 5 + 1e-8);
  assert.ok(below < 3 && above > 9);
});

test("it draws machines over time and epochs over epochs, whatever is chosen", () => {
  assert.equal(xAxisFor("time", "step"), "time");
  assert.equal(xAxisFor("time", "relative"), "relative");
  assert.equal(xAxisFor("epoch", "time"), "epochs");
  assert.equal(xAxisFor("step", "epoch"), "epoch");
});

test("it leads from steps to epochs and back", () => {
  const known = mapping("epoch", { ...UNKNOWN, stepsPerEpoch: 200 });
  assert.deepEqual([known.by, known.forward(300), known.back(1.5)], ["step", 1.5, 300]);
  const rows = [
    { epoch: 1, step: 100 },
    { epoch: 2, step: 300 },
  ];
  const told = mapping("epoch", { ...UNKNOWN, epochs: rows });
  assert.deepEqual([0, 50, 100, 200, 300, 500].map(told.forward), [0, 0.5, 1, 1.5, 2, 3]);
  assert.deepEqual([told.back(1.5), told.back(-Infinity), told.back(Infinity)], [200, -Infinity, Infinity]);
  assert.equal(mapping("epoch", UNKNOWN).forward(7), 7);
  assert.deepEqual([knowsEpochs(UNKNOWN), knowsEpochs({ ...UNKNOWN, epochs: rows })], [false, true]);
});

test("it counts relative times from the start of the run", () => {
  const { by, forward, back } = mapping("relative", { ...UNKNOWN, start: 1000 });
  assert.deepEqual([by, forward(1060), back(60), back(Infinity)], ["time", 60, 1060, Infinity]);
});

test("it draws training over wall time from the times of its points", () => {
  const series = emptySeries("train/loss");
  addPoints(series, 1, [1, 2, 3, 4], [100, 110, 120, 500], [1, 2, 3, 4], null);
  assert.deepEqual(drawable(lineOf(series), -Infinity, Infinity, 100, "time").xs, [100, 110, 120, 500]);
  assert.deepEqual(drawable(lineOf(series), 115, 130, 100, "time").xs, [110, 120, 500]);
  assert.deepEqual(drawable(lineOf(series), 1, 4, 100).xs, [1, 2, 3, 4]);
});

test("it leaves out of a log axis what is not above zero, and counts it", () => {
  assert.deepEqual(aboveZero([1, 0, -2, null, undefined]), [1, null, null, null, undefined]);
  assert.equal(notAboveZero([1, 0, -2, null, undefined]), 2);
  const [low, high] = paddedLogRange(null, 1, 100);
  assert.ok(low > 0 && low < 1 && high > 100);
  assert.deepEqual(logSplits(null, 1, 0.9, 110), [1, 2, 5, 10, 20, 50, 100]);
  assert.deepEqual(logSplits(null, 1, 0.21, 0.39).map((place) => Number(place.toFixed(2))), [0.25, 0.3, 0.35]);
});

test("it tells the values on an axis apart, however close they are", () => {
  assert.deepEqual(valueLabels([0, 0.5, 1]), ["0", "0.5", "1"]);
  assert.deepEqual(valueLabels([75.325, 75.326, 75.33]), ["75.325", "75.326", "75.33"]);
  assert.deepEqual(valueLabels([100_000.1, 100_000.2]), ["100000.1", "100000.2"]);
  assert.deepEqual(valueLabels([null, 75.325, 75.326]), ["–", "75.325", "75.326"]);
});

test("it writes elapsed times", () => {
  assert.deepEqual([7, 750, 3900, 90_061, -5].map(elapsed), ["0:07", "12:30", "1:05:00", "1 d 1:01:01", "−0:05"]);
});

test("it draws a constant as a flat line in the middle, however it was rounded", () => {
  const series = emptySeries("train/learning_rate");
  for (let step = 0; step < 5000; step += 1)
    addPoints(series, 1, [step], [step], [step < 2500 ? 0.001 : Math.fround(0.001)], null);
  const { means } = drawable(lineOf(series), -Infinity, Infinity, 120);
  assert.ok(means.length > 2);
  assert.deepEqual(new Set(sparkHeights(means)), new Set([0.5]));
  assert.deepEqual(sparkHeights([0, 0, 0]), [0.5, 0.5, 0.5]);
  assert.deepEqual(sparkHeights([1, null, 3, 2]), [0, null, 1, 0.5]);
  assert.equal(sparkHeights([1, null]), null);
});

test("it does not leave a constant when it merges", () => {
  const series = emptySeries("rate");
  for (let step = 0; step < 700; step += 1) addPoints(series, 1, [step], [step], [0.1], null);
  assert.deepEqual(new Set(drawable(lineOf(series), -Infinity, Infinity, 50).means), new Set([0.1]));
});

test("it names the first value that is not finite, and counts the others", () => {
  const merged = { axis: "step", raw: false, first_steps: [1, 799, 829], steps: [798, 828, 831], times: [1, 2, 3] };
  for (const column of ["min", "max", "mean"]) merged[column] = [1, 1, null];
  const chart = { ...merged, counts: [798, 30, 3], count: 831, buckets: 3 };
  chart.nonfinite = [[1, "nan"], [2, "inf"]];
  chart.nonfinite_counts = [29, 3];
  chart.nonfinite_steps = [800, 829];
  const line = lineOf(seriesFromCharts("loss", { axis: "step", attempts: { 1: chart } }));
  const where = (x) => `step ${x}`;
  assert.equal(oddText(line.odd, where), "NaN at step 800 and 31 more");
  assert.equal(oddText([{ x: 7, name: "inf", count: 1 }], where), "∞ at step 7");
  const times = columnsFromChart({ ...chart, axis: "time" });
  assert.deepEqual(times.odd.map(({ x }) => x), [2, 3], "machines are drawn over time");
});

test("it counts every value that is not finite, also of those that it keeps no place of", () => {
  const series = emptySeries("loss");
  const nan = new Map([[0, "nan"]]);
  for (let step = 1; step <= 3000; step += 1) addPoints(series, 1, [step], [step], [null], nan);
  addPoints(series, 1, [3000], [3000], [null], nan);
  assert.equal(oddText(lineOf(series).odd, String), "NaN at 1 and 3,000 more");
});

test("it lists names in the order in which people count", () => {
  const names = ["blocks.10/norm", "loss", "blocks.2/norm", "blocks.2/loss"];
  assert.deepEqual(names.toSorted(naturalOrder), ["blocks.2/loss", "blocks.2/norm", "blocks.10/norm", "loss"]);
  assert.deepEqual(names.toSorted(byImportance), ["blocks.2/loss", "loss", "blocks.2/norm", "blocks.10/norm"]);
  assert.deepEqual(["a", "A", "01", "1"].toSorted(naturalOrder), ["01", "1", "a", "A"]);
  const groups = ["blocks.10", "speed", "blocks.2", "", "train"];
  assert.deepEqual(groups.toSorted(groupOrder), ["train", "", "speed", "blocks.2", "blocks.10"]);
});

test("it shows the name of a group as it was logged, and the usual ones as words", () => {
  assert.deepEqual(["my_model", "blocks.10", "train", "gpu", ""].map(groupTitle), [
    "my_model",
    "blocks.10",
    "Train",
    "GPU",
    "Metrics",
  ]);
});

test("norms of layers come last and are folded at first", () => {
  const groups = ["zebra", "layers", "train", "norm", ""];
  assert.deepEqual(groups.sort(groupOrder), ["train", "", "norm", "zebra", "layers"]);
  assert.deepEqual(groups.filter(isFoldedAtFirst), ["layers"]);
});

test("epochs are drawn only if they are known, and stay chosen until then", () => {
  const option = { disabled: false };
  const over = { value: "", querySelector: () => option };
  const elements = { smoothing: { value: "0" }, kind: { value: "ema" }, outliers: {}, log: {}, over };
  const listeners = {};
  const form = { elements, querySelector: () => ({}), addEventListener: (kind, heard) => (listeners[kind] = heard) };
  const view = new ChartView(form, () => {});
  const choose = (name) => listeners.input({ target: { name } });
  over.value = "epoch";
  choose("over");
  assert.equal(view.over, "epoch");
  const { version } = view;
  assert.equal(view.allowEpochs(false), true);
  assert.equal(view.allowEpochs(false), false, "nothing changed");
  assert.equal(view.chosen, "epoch");
  assert.deepEqual([view.over, over.value, option.disabled], ["step", "step", true], "no step is drawn as an epoch");
  assert.notEqual(view.version, version);
  choose("log");
  view.allowEpochs(true);
  assert.deepEqual([view.over, over.value, option.disabled], ["epoch", "epoch", false]);
});
