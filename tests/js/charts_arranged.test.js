import assert from "node:assert/strict";
import { test } from "node:test";

import { chartsOf, groupsOf, isCrowded, openAtFirst, PINNED } from "../../static/js/panels/charts/arrangement.js";
import { ChartGroup } from "../../static/js/chart/group.js";
import { inOrder, moved } from "../../static/js/panels/charts/ordering.js";
import { filterOf } from "../../static/js/panels/charts/filter.js";
import { ChartLines } from "../../static/js/panels/charts/lines.js";
import { colourOf } from "../../static/js/state/series_colour.js";
import { emptySeries } from "../../static/js/state/series.js";

function runOf(...names) {
  return chartsOf(new Map(names.map((name) => [name, emptySeries(name)])));
}

function idsOf(groups) {
  return groups.map(({ id }) => id);
}

test("a part of a name finds charts, in any case", () => {
  const { isOn, matches } = filterOf(" GRAD ");
  assert.deepEqual([isOn, matches("train/grad_norm"), matches("train/loss")], [true, true, false]);
  assert.deepEqual([filterOf("  ").isOn, filterOf("  ").matches("anything")], [false, true]);
  assert.equal(filterOf("layer.1").matches("layer/1"), false);
});

test("a regular expression finds charts, and one that cannot be read hides none", () => {
  const { isOn, matches } = filterOf("re:layer/1[0-9]$");
  assert.deepEqual([isOn, matches("Layer/12"), matches("layer/120"), matches("layer/1")], [true, true, false, false]);
  const wrong = filterOf("re:layer[");
  assert.deepEqual([wrong.isOn, wrong.matches("train/loss")], [false, true]);
  assert.match(wrong.error, /layer\[/);
});

test("charts stand in natural order, and what a machine measures in one chart", () => {
  const charts = runOf("layer/10", "layer/2", "layer/loss", "gpu/0/memory_used_mib", "gpu/1/memory_used_mib");
  assert.deepEqual(charts.map(({ key }) => key), ["layer/loss", "layer/2", "layer/10", "gpu/memory_mib"]);
  assert.equal(charts.at(-1).names.length, 2);
});

test("a chart has the series that were added to it, while the run has them", () => {
  const series = new Map(["train/loss", "validation/loss"].map((name) => [name, emptySeries(name)]));
  const added = { "train/loss": ["validation/loss", "gone/loss"] };
  const charts = chartsOf(series, (key) => added[key] ?? []);
  assert.deepEqual(charts.map(({ names }) => names), [["train/loss", "validation/loss"], ["validation/loss"]]);
});

test("pinned charts of any axis are the first group, and leave their own", () => {
  const charts = runOf("train/loss", "layer/1", "layer/2", "host/cpu", "host/ram");
  const pinned = new Set(["layer/2", "host/cpu"]);
  const groups = groupsOf(charts, (key) => pinned.has(key));
  assert.deepEqual(idsOf(groups), [`step:${PINNED}`, "step:train", "step:layer", "time:host"]);
  assert.deepEqual(groups[0].charts.map(({ key }) => key), ["layer/2", "host/cpu"]);
  assert.deepEqual(groups[2].charts.map(({ key }) => key), ["layer/1"]);
});

test("of a crowd pinned charts, the first group and the first loss are open", () => {
  const layers = Array.from({ length: 41 }, (_, number) => `layer/${number}`);
  const few = runOf("alpha/a", "gan/d_loss", "zeta/loss", "host/cpu");
  const many = runOf(...layers, "alpha/a", "gan/d_loss", "zeta/loss", "host/cpu");
  assert.deepEqual([isCrowded(few), isCrowded(many)], [false, true]);
  const groupsOfFew = groupsOf(few, () => false);
  assert.deepEqual([...openAtFirst(groupsOfFew, false)], ["step:alpha", "step:gan", "step:zeta"]);
  const open = openAtFirst(groupsOf(many, () => false), true);
  assert.deepEqual([...open], [`step:${PINNED}`, "step:alpha", "step:gan"]);
});

test("a series has one colour, whatever else is logged and wherever it is drawn", () => {
  const colours = (axis, ...names) => names.map((name) => colourOf(name, axis));
  assert.deepEqual(colours("step", "loss", "train/loss", "train/accuracy", "train_loss"), [0, 0, 0, 0]);
  assert.deepEqual(colours("step", "val/loss", "validation/loss", "validation_loss", "val_loss"), [1, 1, 1, 1]);
  assert.deepEqual(colours("time", "gpu/0/utilisation", "gpu/1/memory_used_mib", "gpu/1/memory_total_mib"), [0, 1, 1]);
  const names = ["optimizer/learning_rate", "speed/steps", "own/a", "constructor/a", "host/load"];
  for (const name of names) assert.ok([2, 3, 4].includes(colourOf(name, "step")), name);
  const lines = new ChartLines({ series: new Map(), latest: {} }, {}, {}, {});
  // As the line of its own chart, and added to the chart of another series.
  for (const name of [...names, "validation/loss"]) {
    const [alone] = lines.ofChart([name], "step");
    const [, , added] = lines.ofChart(["loss", "train/loss", name], "step");
    assert.deepEqual([alone.colour, added.colour], [colourOf(name, "step"), colourOf(name, "step")]);
  }
  const [, perEpoch] = lines.ofChart(["train/loss", "/epochs/validation_loss"], "step");
  assert.equal(perEpoch.colour, 1);
  assert.equal(lines.ofChart(["loss", "validation/loss"], "step")[1].dash, 1, "lines of one colour differ in their dash");
  const [power] = lines.ofChart(["gpu/1/power"], "time");
  assert.equal(power.colour, lines.ofChart(["gpu/0/power", "gpu/1/power"], "time")[1].colour);
});

test("charts stand as somebody arranged them, and new ones behind them in natural order", () => {
  const charts = runOf("layer/1", "layer/2", "layer/3", "layer/4");
  assert.deepEqual(inOrder(charts, ["layer/3", "gone/1", "layer/1"]).map(({ key }) => key), ["layer/3", "layer/1", "layer/2", "layer/4"]);
  assert.deepEqual(inOrder(charts, []), charts);
});

test("a chart takes the place of the one on which it is dropped", () => {
  const keys = ["a", "b", "c", "d"];
  assert.deepEqual(moved(keys, "a", "c"), ["b", "c", "a", "d"]);
  assert.deepEqual(moved(keys, "d", "b"), ["a", "d", "b", "c"]);
  assert.deepEqual([moved(keys, "b", "b"), moved(keys, "gone", "b"), moved(keys, "b", "gone")], [keys, keys, keys]);
});

test("a zoom moves as far as there are points", () => {
  const group = new ChartGroup({ mapping: () => ({}), onChange: () => {} });
  group.panBy(5, [0, 100]);
  assert.equal(group.zoom, null);
  group.zoomTo(40, 60);
  group.panBy(-10, [0, 100]);
  assert.deepEqual(group.zoom, { from: 30, to: 50 });
  group.panBy(-1000, [0, 100]);
  assert.deepEqual(group.zoom, { from: 0, to: 20 });
  group.panBy(1000, [0, 100]);
  assert.deepEqual(group.zoom, { from: 80, to: 100 });
});

test("finer points of a range that somebody selected are requested at once", () => {
  const asked = [];
  const fetchRange = (names, from, to) => {
    asked.push([...names, from, to]);
    return Promise.resolve({});
  };
  const mapping = () => ({ by: "step", back: (x) => x, forward: (x) => x });
  const group = new ChartGroup({ fetchRange, attemptsOf: () => new Set(), mapping, onChange: () => {} });
  group.join({ isVisible: true, lines: [{ name: "loss", isCoarse: () => true }] });
  group.zoomTo(40, 60);
  assert.deepEqual(asked, []);
  group.zoomTo(10, 20, { isFinal: true });
  assert.deepEqual(asked, [["loss", 10, 20]]);
});
