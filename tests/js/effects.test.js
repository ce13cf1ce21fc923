import assert from "node:assert/strict";
import { test } from "node:test";

import { effectText } from "../../static/js/commands/effect_text.js";
import {
  effectAt,
  effectSeries,
  isFullResolution,
  neighbouringChanges,
  stepsAround,
} from "../../static/js/commands/effect_size.js";
import { addPoints, emptySeries, lineOf } from "../../static/js/state/series.js";

const STEPS = Array.from({ length: 200 }, (_, index) => index + 1);
/** Return 1 up to step 100 and `after` from then on, with alternating noise. */
const jump = (after, noise = 0.01) => STEPS.map((step) => (step <= 100 ? 1 : after) + (step % 2 ? noise : -noise));
const close = (value, wanted) => assert.ok(Math.abs(value - wanted) < 1e-9, `${value} is not ${wanted}`);

test("it compares the points up to a step with those behind it", () => {
  const effect = effectAt(STEPS, jump(0.8), 100);
  close(effect.before.mean, 1);
  close(effect.after.mean, 0.8);
  close(effect.change, -0.2);
  close(effect.before.spread, 0.01 * Math.sqrt(50 / 49));
  assert.deepEqual([effect.before.count, effect.after.count, effect.isClear, effect.isWhole], [50, 50, true, true]);
});

test("it does not claim what the spread covers", () => {
  assert.equal(effectAt(STEPS, jump(0.9, 0.12), 100).isClear, false);
  assert.equal(effectAt(STEPS, jump(0.9, 0.08), 100).isClear, true);
  assert.equal(effectAt(STEPS, jump(1), 100).isClear, false);
  const calmFirst = STEPS.map((step) => (step <= 100 ? 1 : 0.9 + (step % 2 ? 0.15 : -0.15)));
  assert.equal(effectAt(STEPS, calmFirst, 100).isClear, false, "the wider spread counts");
});

test("it says so while the window behind is still filling, and nothing with too few points", () => {
  const effect = effectAt(STEPS.slice(0, 120), jump(0.8).slice(0, 120), 100);
  assert.deepEqual([effect.after.count, effect.isWhole], [20, false]);
  assert.equal(effectAt(STEPS.slice(0, 104), jump(0.8).slice(0, 104), 100), null);
  assert.equal(effectAt(STEPS, jump(0.8), 4), null);
});

test("it crosses no neighbouring change", () => {
  const bounds = neighbouringChanges([{ step: 80 }, { step: 100 }, { step: 130 }, { step: 20 }], 100);
  assert.deepEqual(bounds, { from: 80, to: 130 });
  const effect = effectAt(STEPS, jump(0.8), 100, bounds);
  assert.deepEqual([effect.before.count, effect.after.count, effect.isWhole], [20, 30, true]);
  assert.deepEqual(neighbouringChanges([{ step: 100 }], 100), { from: -Infinity, to: Infinity });
});

test("it leaves out what is no number and tells how often that was", () => {
  const values = jump(0.8).map((value, index) => (index >= 100 ? null : value));
  const odd = STEPS.slice(100).map((x) => ({ x, name: "nan", count: 1 }));
  const effect = effectAt(STEPS, values, 100, { odd });
  assert.deepEqual([effect.after.count, effect.after.odd, effect.change, effect.isClear], [0, 50, null, true]);
  assert.match(effectText({ ...effect, name: "train/loss" }), /→ NaN, 50 not finite/);
});

test("it says it in words", () => {
  const text = effectText({ ...effectAt(STEPS, jump(0.8), 100), name: "train/loss" });
  assert.equal(text, "Train loss 1 ± 0.01 → 0.8 ± 0.01, −20 % (50 and 50 points)");
  const unclear = effectText({ ...effectAt(STEPS.slice(0, 120), jump(1).slice(0, 120), 100), name: "train/loss" });
  assert.match(unclear, /not clear: smaller than the spread \(50 and 20 points, so far\)/);
});

test("it chooses the loss of the run", () => {
  const named = (...names) => new Map(names.map((name) => [name, emptySeries(name)]));
  assert.equal(effectSeries(named("train/accuracy", "train/loss")), "train/loss");
  assert.equal(effectSeries(named("value", "generator/loss_total")), "generator/loss_total");
  assert.equal(effectSeries(named("value", "gpu/0/loss")), "");
});

test("it knows where its own points are too coarse, and how much to ask for", () => {
  const series = emptySeries("train/loss");
  addPoints(series, 1, STEPS, STEPS, jump(0.8), null);
  const line = lineOf(series);
  assert.equal(isFullResolution(line, 100), true);
  assert.equal(stepsAround(line), 75);
  line.weights[100] = 4;
  assert.equal(isFullResolution(line, 100), false);
  assert.equal(isFullResolution(line, 30, 20), true);
});
