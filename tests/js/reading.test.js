import assert from "node:assert/strict";
import { test } from "node:test";

import { noMetricsText } from "../../static/js/panels/charts/empty_charts_text.js";
import { bytes, clock, duration, measure, moment, number, readableName } from "../../static/js/shared/format.js";
import { currentEpoch, secondsLeft, shareDone, stepRate } from "../../static/js/state/progress.js";
import { drawable } from "../../static/js/state/columns.js";
import { addPoints, emptySeries, lineOf, seriesFromCharts } from "../../static/js/state/series.js";

test("it writes numbers with four digits and names what is no number", () => {
  assert.deepEqual(
    [0.123456, 12345.6, 3, 0.00031, 0.000031, 2.5e9].map((value) => number(value)),
    ["0.1235", "12346", "3", "0.00031", "3.10e-5", "2.50e9"],
  );
  assert.deepEqual([number(null, "nan"), number(null, "-inf"), number(null)], ["NaN", "−∞", "–"]);
});

test("it writes a moment with its day and zone", () => {
  assert.match(moment("2026-01-02T03:04:05Z"), /2026.*\d\d:\d\d:05 \S+/);
  assert.equal(moment("never"), "");
});

test("a clock time has its day if it is not today, and its year if it is not this one", () => {
  const now = new Date();
  assert.match(clock(now.toISOString()), /^\d\d:\d\d:\d\d$/);
  const other = new Date(now.getFullYear(), now.getMonth() === 5 ? 6 : 5, 15, 12);
  assert.match(clock(other.toISOString()), /^\S+ \S+ 12:00:00$/);
  assert.doesNotMatch(clock(other.toISOString()), /\d{4}/);
  for (const at of ["2024-06-15T12:00:00", new Date("2024-06-15T12:00:00").getTime() / 1000])
    assert.match(clock(at), /2024.* 12:00:00$/);
  assert.match(moment(0), /19(69|70)/);
});

test("it writes measures in their units", () => {
  assert.equal(measure("validation/accuracy", 0.9731), "97.3 %");
  assert.equal(measure("train/data_wait_fraction", 0.0625), "6.3 %");
  assert.equal(measure("gpu/0/memory_mib", 21840.04), "21840 MiB");
  assert.equal(measure("gpu/0/utilisation", 88.25), "88.3 %");
  assert.equal(measure("train/loss", 0.25), "0.25");
});

test("it writes durations and sizes for people", () => {
  assert.deepEqual([4.21, 59.6, 200, 7500, 270_000].map(duration), [
    "4.2 s",
    "1 min 00 s",
    "3 min 20 s",
    "2 h 05 min",
    "3 d 3 h",
  ]);
  assert.equal(duration(null), "–");
  assert.deepEqual([bytes(512), bytes(1536), bytes(48 * 1024 * 1024)], ["512 B", "1.5 KiB", "48 MiB"]);
  assert.equal(readableName("gpu"), "GPU");
  assert.equal(readableName("validation_loss"), "Validation loss");
});

test("it knows how fast a run goes and when it may end", () => {
  const series = emptySeries("train/loss");
  for (let step = 0; step < 1000; step += 1) addPoints(series, 1, [step], [step / 4], [1], null);
  const shown = (state) => stepRate({ run: { state }, series: new Map([["train/loss", series]]) });
  const rate = shown("running");
  assert.ok(Math.abs(rate - 4) < 0.01);
  const run = { state: "running", step: 1000, total_steps: 2000, epoch: 9, total_epochs: 20, steps_per_epoch: 100 };
  assert.equal(shareDone(run), 0.5);
  assert.equal(currentEpoch(run), 11);
  assert.ok(Math.abs(secondsLeft(run, rate) - 250) < 1);
  assert.equal(secondsLeft({ ...run, state: "stopped" }, rate), null);
  assert.equal(stepRate({ run, series: new Map() }), null);
  for (const state of ["paused", "finished", "stopped", "failed", "lost", "queued"]) assert.equal(shown(state), null, state);
});

test("it draws a part of a series with a point beyond each side", () => {
  const series = emptySeries("loss");
  for (let step = 0; step < 100; step += 1) addPoints(series, 1, [step], [step], [step], null);
  const drawn = drawable(lineOf(series), 40, 50, 100);
  assert.equal(drawn.xs[0], 39);
  assert.ok(drawn.xs.at(-1) >= 51);
  assert.equal(drawn.banded, false);
});

test("it draws a live tail as coarse as the history before it", () => {
  const chart = {
    axis: "step",
    raw: false,
    first_steps: [],
    steps: [],
    times: [],
    min: [],
    max: [],
    mean: [],
    count: 8000,
    counts: [],
    nonfinite: [],
    nonfinite_counts: [],
  };
  for (let bucket = 0; bucket < 1000; bucket += 1) {
    chart.first_steps.push(bucket * 8);
    chart.steps.push(bucket * 8 + 7);
    chart.counts.push(8);
    for (const column of ["times", "min", "max", "mean"]) chart[column].push(bucket);
  }
  const series = seriesFromCharts("loss", { axis: "step", attempts: { 1: chart } });
  for (let step = 8000; step < 8800; step += 1) addPoints(series, 1, [step], [step], [step % 2], null);
  const drawn = drawable(lineOf(series), -Infinity, Infinity, 400);
  assert.ok(drawn.xs.length <= 402);
  assert.equal(drawn.points, 8800);
  const tail = drawn.xs.filter((x) => x >= 8000).length;
  assert.ok(tail <= 26, `${tail} columns for 800 of 8,800 points`);
  const before = drawn.xs.slice(0, 200);
  addPoints(series, 1, [8800], [8800], [0], null);
  assert.deepEqual(drawable(lineOf(series), -Infinity, Infinity, 400).xs.slice(0, 200), before);
});

test("it says why there are no charts by what the run is at", () => {
  const groups = { created: "waiting", queued: "waiting", running: "live", failed: "ended", lost: "lost" };
  const text = (state, may = []) => noMetricsText({ run: { state, group: groups[state] }, viewer: { may } }, "train --run-id 7 -- a.py");
  assert.match(text("created", ["stop"]), /: train --run-id 7 -- a.py$/);
  assert.doesNotMatch(text("created"), /--run-id/, "who may not start it needs no command");
  assert.match(text("queued"), /waits for a host/);
  assert.match(text("running"), /getting ready/);
  assert.match(text("failed"), /ended before/);
  assert.match(text("lost"), /was disconnected/);
  assert.equal(noMetricsText({ run: null, viewer: null }, ""), "Charts appear with the first point.");
});
