import assert from "node:assert/strict";
import { test } from "node:test";

import { addPoints, drawable, emptySeries, MOST_BUCKETS } from "../../static/js/state/series.js";
import { applyEvent, emptyState } from "../../static/js/state/run_state.js";
import { historyOf, metrics, played } from "./story.js";

test("it lets a later attempt replace the steps that it trains again", () => {
  const state = played([
    metrics(1, 1, [1, 2, 3, 4, 5], { loss: [5, 4, null, 2, 1] }, { loss: [[2, "inf"]] }),
    metrics(2, 2, [3, 4], { loss: [30, 40] }),
  ]);
  const series = state.series.get("loss");
  assert.deepEqual(series.xs, [1, 2, 3, 4]);
  played([metrics(3, 1, [5, 6], { loss: [1, 1] }), metrics(4, 2, [5], { loss: [50] })], state);
  assert.deepEqual(series.xs, [1, 2, 3, 4, 5]);
  assert.deepEqual(series.means, [5, 4, 30, 40, 50]);
  assert.deepEqual(series.odd, []);
  assert.equal(series.count, 5);
});

test("it keeps points sorted and unique by step", () => {
  const state = played([
    metrics(1, 1, [1, 5, 9], { loss: [1, 5, 9] }),
    metrics(2, 1, [7, 3, 5, 11], { loss: [7, 3, 50, 11] }),
  ]);
  assert.deepEqual(state.series.get("loss").xs, [1, 3, 5, 7, 9, 11]);
  assert.deepEqual(state.series.get("loss").means, [1, 3, 50, 7, 9, 11]);
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
  const series = state.series.get("loss");
  assert.deepEqual(series.means, [1, null, null]);
  assert.deepEqual(series.odd, [
    { x: 2, name: "nan" },
    { x: 3, name: "-inf" },
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
  assert.ok(series.xs.length <= MOST_BUCKETS);
  assert.equal(series.count, total);
  assert.equal(Math.max(...series.maxs), 1e6);
  assert.equal(Math.min(...series.mins), -1e6);
  assert.deepEqual(series.odd, [{ x: 100, name: "nan" }]);
  assert.equal(series.xs.at(-1), total - 1);
  const drawn = drawable(series, 0, total, 400);
  assert.ok(drawn.xs.length <= 402);
  assert.equal(drawn.points, total);
  assert.equal(Math.max(...drawn.maxs), 1e6);
  assert.equal(Math.min(...drawn.mins), -1e6);
});

test("it continues a downsampled history", () => {
  const state = applyEvent(emptyState(), {
    ...historyOf(played([])),
    seq: 7,
    series: {
      loss: {
        axis: "step",
        raw: false,
        first_steps: [1, 11],
        steps: [10, 20],
        times: [10, 20],
        min: [0, 1],
        max: [9, 8],
        mean: [4, 5],
        last: [1, 2],
        nonfinite: [[1, "nan"]],
        count: 20,
        buckets: 2,
      },
    },
  });
  applyEvent(state, metrics(8, 1, [21], { loss: [3] }));
  const series = state.series.get("loss");
  assert.deepEqual(series.xs, [10, 20, 21]);
  assert.deepEqual(series.maxs, [9, 8, 3]);
  assert.equal(series.count, 21);
  assert.deepEqual(series.odd, [{ x: 20, name: "nan" }]);
});
