import assert from "node:assert/strict";
import { test } from "node:test";

import { knowsEpochs, mapping, xAxisFor } from "../../static/js/chart/axes.js";
import { aboveZero, elapsed, logSplits, notAboveZero, paddedLogRange } from "../../static/js/chart/scales.js";
import { drawable } from "../../static/js/state/columns.js";
import { addPoints, emptySeries, lineOf } from "../../static/js/state/series.js";
import { smoothed } from "../../static/js/chart/smoothing.js";

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

test("it writes elapsed times", () => {
  assert.deepEqual([7, 750, 3900, 90_061, -5].map(elapsed), ["0:07", "12:30", "1:05:00", "1 d 1:01:01", "−0:05"]);
});
