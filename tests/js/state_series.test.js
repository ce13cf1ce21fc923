import assert from "node:assert/strict";
import { test } from "node:test";

import { drawable, MOST_BUCKETS, pointsOf } from "../../static/js/state/columns.js";
import { addPoints, earlierOf, emptySeries, lineOf, seriesFromCharts } from "../../static/js/state/series.js";
import { applyEvent, emptyState } from "../../static/js/state/run_state.js";
import { history, metrics, played } from "./story.js";

test("it lets a later attempt replace the steps that it trains again", () => {
  const state = played([
    metrics(1, 1, [1, 2, 3, 4, 5], { loss: [5, 4, null, 2, 1] }, { loss: [[2, "inf"]] }),
    metrics(2, 2, [3, 4], { loss: [30, 40] }),
  ]);
  const series = state.series.get("loss");
  assert.deepEqual(lineOf(series).xs, [1, 2, 3, 4]);
  assert.deepEqual(
    earlierOf(series).map(({ attempt, columns }) => [attempt, columns.xs, columns.means, columns.odd]),
    [[1, [3, 4, 5], [null, 2, 1], [{ x: 3, name: "inf", count: 1 }]]],
    "what was trained again stays as an earlier line",
  );
  played([metrics(3, 1, [5, 6], { loss: [1, 1] }), metrics(4, 2, [5], { loss: [50] })], state);
  assert.deepEqual(lineOf(series).xs, [1, 2, 3, 4, 5]);
  assert.deepEqual(lineOf(series).means, [5, 4, 30, 40, 50]);
  assert.deepEqual(lineOf(series).odd, []);
  assert.deepEqual(lineOf(series, 1).xs, [1, 2, 3, 4, 5, 6], "as the first attempt left it");
  assert.deepEqual(earlierOf(series, 1).map(({ attempt, columns }) => [attempt, columns.xs]), [[2, [3, 4, 5]]]);
});

test("an attempt in between counts up to the first step of the next", () => {
  const series = emptySeries("loss");
  for (const [attempt, xs] of [
    [1, [1, 2, 3, 4, 5, 6, 7, 8]],
    [3, [7, 8]],
    [2, [4, 5, 6, 7]],
  ])
    addPoints(series, attempt, xs, xs, xs.map(() => attempt), null);
  assert.deepEqual(lineOf(series).means, [1, 1, 1, 2, 2, 2, 3, 3]);
  assert.deepEqual(
    earlierOf(series).map(({ attempt, columns }) => [attempt, columns.xs]),
    [
      [1, [4, 5, 6, 7, 8]],
      [2, [7]],
    ],
  );
});

test("it keeps points sorted and unique by step, and hides none of the same step", () => {
  const state = played([
    metrics(1, 1, [1, 5, 9], { loss: [1, 5, 9] }),
    metrics(2, 1, [7, 3, 5, 11], { loss: [7, 3, 50, 11] }),
  ]);
  const line = lineOf(state.series.get("loss"));
  assert.deepEqual(line.xs, [1, 3, 5, 7, 9, 11]);
  assert.deepEqual(line.means, [1, 3, 27.5, 7, 9, 11]);
  assert.deepEqual([line.mins[2], line.maxs[2], line.weights[2]], [5, 50, 2]);
});

test("a step that goes back begins a line of its own, from the history as from events", () => {
  const steps = Array.from({ length: 12 }, (_, index) => index + 1);
  const told = [];
  for (let lap = 0; lap < 3; lap += 1) {
    const event = metrics(lap + 1, 1, steps, { loss: steps.map(() => lap), rate: steps });
    if (lap) event.blocks[0].laps = { loss: lap };
    told.push(event);
  }
  const followed = played(told).series.get("loss");
  const chart = (lap) => ({
    axis: "step",
    raw: true,
    steps,
    times: told[lap].blocks[0].times,
    values: steps.map(() => lap),
    nonfinite: [],
    count: steps.length,
  });
  const loaded = seriesFromCharts("loss", {
    axis: "step",
    attempts: { 1: chart(0) },
    laps: { 1: { 1: chart(1), 2: chart(2) } },
  });
  for (const series of [followed, loaded]) {
    assert.deepEqual(lineOf(series).means, steps.map(() => 2));
    assert.deepEqual(
      earlierOf(series).map(({ attempt, lap, columns }) => [attempt, lap, columns.xs.length, columns.means[0]]),
      [
        [1, 0, 12, 0],
        [1, 1, 12, 1],
      ],
    );
  }
  assert.deepEqual([...followed.parts], [...loaded.parts]);
});

test("one that goes back to the middle counts from there on", () => {
  const series = emptySeries("loss");
  const log = (xs, lap) => addPoints(series, 1, xs, xs, xs.map(() => lap), null, MOST_BUCKETS, lap);
  log([1, 2, 3, 4, 5], 0);
  log([3, 4], 1);
  assert.deepEqual(lineOf(series).means, [0, 0, 1, 1]);
});

test("what is no finite number stands in the order of steps, also one that comes late", () => {
  const state = played([
    metrics(1, 1, [1, 5], { loss: [1, null] }, { loss: [[1, "nan"]] }),
    metrics(2, 1, [3], { loss: [null] }, { loss: [[0, "inf"]] }),
  ]);
  assert.deepEqual(
    lineOf(state.series.get("loss")).odd.map(({ x, name }) => [x, name]),
    [
      [3, "inf"],
      [5, "nan"],
    ],
  );
});

test("it breaks the line at what is not finite and keeps its name", () => {
  const state = played([
    metrics(
      1,
      1,
      [1, 2, 3],
      { loss: [1, null, null] },
      {
        loss: [
          [1, "nan"],
          [2, "-inf"],
        ],
      },
    ),
  ]);
  const line = lineOf(state.series.get("loss"));
  assert.deepEqual(line.means, [1, null, null]);
  assert.deepEqual(line.odd, [
    { x: 2, name: "nan", count: 1 },
    { x: 3, name: "-inf", count: 1 },
  ]);
  assert.deepEqual(state.latest.loss, { step: 3, time: 1003, value: null, nonfinite: "-inf" });
});

test("it bounds a series and keeps every spike and every NaN", () => {
  const series = emptySeries("loss");
  const total = 5 * MOST_BUCKETS;
  for (let step = 0; step < total; step += 1) {
    const odd = step === 100 ? new Map([[0, "nan"]]) : null;
    addPoints(series, 1, [step], [step], [step === 777 ? 1e6 : step === 20_001 ? -1e6 : 1], odd);
  }
  const line = lineOf(series);
  assert.ok(line.xs.length <= MOST_BUCKETS);
  assert.equal(pointsOf(line), total);
  assert.equal(Math.max(...line.maxs), 1e6);
  assert.equal(Math.min(...line.mins), -1e6);
  assert.deepEqual(line.odd, [{ x: 100, name: "nan", count: 1 }]);
  assert.equal(line.xs.at(-1), total - 1);
  const drawn = drawable(line, 0, total, 400);
  assert.ok(drawn.xs.length <= 402);
  assert.equal(drawn.points, total);
  assert.equal(Math.max(...drawn.maxs), 1e6);
  assert.equal(Math.min(...drawn.mins), -1e6);
});

test("it continues a downsampled history", () => {
  const chart = {
    axis: "step",
    raw: false,
    first_steps: [1, 11],
    steps: [10, 20],
    times: [10, 20],
    min: [0, 1],
    max: [9, 8],
    mean: [4, 5],
    nonfinite: [[1, "nan"]],
    nonfinite_counts: [3],
    nonfinite_steps: [14],
    counts: [10, 10],
    count: 20,
    buckets: 2,
  };
  const state = applyEvent(emptyState(), history(7, { series: { loss: { axis: "step", attempts: { 1: chart } } } }));
  assert.deepEqual(state.latest.loss, { step: 20, time: 20, value: 5, nonfinite: "nan" });
  applyEvent(state, metrics(8, 1, [21, 20], { loss: [3, 12] }));
  const line = lineOf(state.series.get("loss"));
  assert.deepEqual(line.xs, [10, 20, 21]);
  assert.deepEqual(line.maxs, [9, 12, 3]);
  assert.equal(line.means[1], (7 * 5 + 12) / 8, "seven of the ten were finite");
  assert.equal(pointsOf(line), 22);
  assert.deepEqual(line.odd, [{ x: 14, name: "nan", count: 3 }]);
});
