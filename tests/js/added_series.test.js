import assert from "node:assert/strict";
import { test } from "node:test";

import { matching } from "../../static/js/panels/charts/added_series.js";
import { addedName, epochLineNames, epochReader } from "../../static/js/panels/charts/epoch_lines.js";
import { mapping } from "../../static/js/chart/axes.js";
import { addPoints, emptySeries, lineOf } from "../../static/js/state/series.js";

const row = (attempt, epoch, step, values, nonfinite = {}) => ({ attempt, epoch, step, order: 0, values, nonfinite });

/** Return a reader of the validation loss of `epochs`, beside a series with a point every 10 steps, one per second. */
function reader(epochs, over, attempt = Infinity) {
  const series = emptySeries("train/loss");
  for (let step = 0; step <= 300; step += 10) addPoints(series, 1, [step], [1000 + step / 10], [1], null);
  const clock = { version: 1, mapping: () => mapping(over, { start: 1000, stepsPerEpoch: 100, epochs: [] }) };
  const state = { epochs, versions: { epochs: 1 } };
  return epochReader("/epochs/validation_loss", state, { attempt }, clock, () => lineOf(series));
}

test("an epoch is drawn at its last step, in the unit of x that is chosen", () => {
  const epochs = [row(1, 1, 100, { validation_loss: 2 }), row(1, 2, 200, {}), row(1, 3, 300, { validation_loss: null }, { validation_loss: "nan" })];
  const { xs, means, odd, points } = reader(epochs, "step").read();
  assert.deepEqual([xs, means, points], [[100, 300], [2, null], 2]);
  assert.deepEqual(odd, [{ x: 300, name: "nan", count: 1 }]);
  assert.deepEqual(reader(epochs, "epoch").read().xs, [1, 3]);
  assert.deepEqual(reader(epochs, "time").read().xs, [1010, 1030]);
  assert.deepEqual(reader(epochs, "relative").read().xs, [10, 30]);
  assert.deepEqual(reader(epochs, "step").extent(), [100, 300]);
  assert.deepEqual(reader(epochs.slice(0, 1), "step").latest(), { value: 2, nonfinite: "" });
});

test("epochs that a later attempt repeated are an earlier line", () => {
  const epochs = [row(1, 1, 100, { validation_loss: 3 }), row(1, 2, 200, { validation_loss: 2 }), row(2, 2, 200, { validation_loss: 1 })];
  const drawn = reader(epochs, "step").read();
  assert.deepEqual([drawn.xs, drawn.means], [[100, 200], [3, 1]]);
  assert.deepEqual(drawn.earlier, [{ xs: [200], means: [2] }]);
  assert.deepEqual(reader(epochs, "step", 1).read().means, [3, 2]);
});

test("a part of a name finds the series to add, first those that are compared with this one", () => {
  const epochs = epochLineNames([row(1, 1, 100, { validation_loss: 2, accuracy: 1 })]);
  const names = ["train/loss", "train/accuracy", "validation/loss", "train/lossless", ...epochs];
  const texts = (text) => matching(names, text, "train/loss").map(addedName);
  assert.deepEqual(texts(""), ["validation_loss, per epoch", "validation/loss", "accuracy, per epoch", "train/accuracy", "train/lossless"]);
  assert.deepEqual(texts(" VALID"), ["validation_loss, per epoch", "validation/loss"]);
  assert.deepEqual(texts("lossless"), ["train/lossless"]);
  assert.deepEqual(texts("train/loss"), ["train/lossless"]);
  assert.deepEqual(texts("nothing"), []);
});
