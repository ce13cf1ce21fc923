// The plain logic of a comparison: its search, its address, and the binary response with the points.

import assert from "node:assert/strict";
import { test } from "node:test";
import { coloursOf, leaveOut, readAddress, writeAddress } from "../../static/js/compare/address.js";
import { decodeCurves } from "../../static/js/compare/curves.js";
import { endsOf, factAxis, insideAll, movedRange, rangeBetween, rankCorrelation } from "../../static/js/compare/fact_axis.js";
import { chartSearch } from "../../static/js/compare/search.js";
import { nearestKnown } from "../../static/js/chart/gestures.js";

test("a search finds parts of names, or a pattern", () => {
  const names = ["train/loss", "validation/Loss", "speed/step_ms"];
  const found = (text) => names.filter(chartSearch(text).matches);
  assert.deepEqual(found(""), names);
  assert.deepEqual(found(" LOSS "), ["train/loss", "validation/Loss"]);
  assert.deepEqual(found("re:^v.*loss$"), ["validation/Loss"]);
  assert.deepEqual(found("re:("), []);
  assert.ok(chartSearch("re:(").error && !chartSearch("re:.").error);
  assert.deepEqual(found("."), [], "without re: a dot is a dot");
});

const DEFAULTS = { smoothing: 0, kind: "ema", log: false, outliers: true };

test("an address that was written says the same when it is read", () => {
  const zooms = new Map([["step", { from: 10, to: 1234.56789 }], ["relative", { from: 0, to: 60 }]]);
  const facts = { x: "parameter:rate", y: "last:train/loss", xlog: true, ylog: false };
  const view = {
    over: "epoch", search: "a b&c", zooms, facts,
    axes: ["last:train/loss", "parameter:a,b"], ranges: new Map([["parameter:a,b", [0.1, null]], ["recipe", ["a", "b,c"]]]),
    drawing: { smoothing: 0.6, kind: "gaussian", log: true, outliers: false },
    own: { "epoch:loss": { log: false, range: [-1.5, 2] }, "train/loss": { log: true, range: null } },
    folds: { "train/": false, machine: true },
  };
  const query = writeAddress("?run=1&run=2", { ...view, hidden: new Set([2, 7]) });
  assert.match(query, /^run=1&run=2&/);
  assert.deepEqual(readAddress(query), { ...view, hidden: [2, 7] });
  assert.equal(writeAddress(query, { ...view, hidden: new Set([2, 7]) }), query, "nothing is written twice");
  const nothing = { hidden: [], over: "step", search: "", zooms: new Map() };
  assert.equal(writeAddress(query, nothing), "run=1&run=2");
  assert.equal(writeAddress(query, { ...nothing, drawing: DEFAULTS }), "run=1&run=2");
});

test("an address that says how a comparison is shown says it all, one of runs alone nothing", () => {
  assert.equal(readAddress("run=1&group=seed&baseline=1").drawing, null);
  assert.deepEqual(readAddress("run=1&hidden=1").drawing, DEFAULTS);
  assert.deepEqual(readAddress("run=1&smooth=odd:x").drawing, DEFAULTS);
});

test("a run keeps its colour after others were left out", () => {
  assert.deepEqual(coloursOf("run=1&run=2", 2), [0, 1]);
  const query = leaveOut("run=5&run=6&run=7&run=8&hidden=6,7&baseline=6&axis=a", 1, ["5", "7", "8"], [0, 1, 2, 3], false);
  assert.equal(query, "run=5&run=7&run=8&hidden=7&axis=a&colours=0,2,3");
  assert.deepEqual(coloursOf(query, 3), [0, 2, 3]);
  const next = leaveOut(query, 0, ["7", "8"], coloursOf(query, 3), false);
  assert.deepEqual(coloursOf(next, 2), [2, 3]);
  // Runs that were added to the address take the colours that are free.
  assert.deepEqual(coloursOf(next, 4), [2, 3, 0, 1]);
  assert.deepEqual(coloursOf("colours=4,4,x,-1,4", 5), [4, 0, 1, 2, 3]);
  const groups = leaveOut("run=1&run=2&run=3&group=seed&hidden=1&baseline=1", 0, ["2"], [0, 1], true);
  assert.equal(groups, "run=2&group=seed&colours=1");
});

test("an address tells no choice of axes from a choice of none, and leaves out wrong ranges", () => {
  const view = { hidden: [], over: "step", search: "", zooms: new Map() };
  assert.equal(readAddress("run=1").axes, null);
  assert.deepEqual(readAddress(writeAddress("run=1", { ...view, axes: [] })).axes, []);
  assert.equal(writeAddress("run=1&axis=a&brush=%5B%22a%22%2C1%2C2%5D", view), "run=1");
  const wrong = ["x", "1", "[1,2,3]", '["a",1]', '["a",null,null]', '["a",1,"b"]', '["a",[1],2]'];
  assert.equal(readAddress(new URLSearchParams(wrong.map((text) => ["brush", text])).toString()).ranges.size, 0);
});

test("a range on an axis of numbers is open at the ends of the axis", () => {
  const axis = factAxis([0, 10, null]);
  assert.deepEqual(rangeBetween(axis, 0.2, 0.5), [2, 5]);
  assert.deepEqual(rangeBetween(axis, -0.1, 0.5), [null, 5]);
  assert.equal(rangeBetween(axis, -0.1, 1.2), null);
  assert.deepEqual(endsOf(axis, [2, null]), [0.2, 1]);
  assert.deepEqual(endsOf(axis, [-5, 50]), [0, 1]);
  // Ends of an edited address that have no place here.
  assert.deepEqual(endsOf(axis, ["a", "b"]), [0, 1]);
  assert.deepEqual(movedRange(axis, ["a", "b"], true, -1), [null, 9.5]);
  assert.deepEqual(rangeBetween(factAxis([1, 100], true), 0.5, 1), [10, null]);
  assert.equal(rangeBetween(factAxis([3, 3]), 0.4, 1), null, "one value alone cannot be divided");
  assert.equal(rangeBetween(factAxis([null]), 0, 0.5), undefined);
});

test("a range on an axis of texts has whole texts", () => {
  const axis = factAxis(["c", "a", "b"]);
  assert.deepEqual(rangeBetween(axis, 0.1, 0.6), [null, "b"]);
  assert.deepEqual(rangeBetween(axis, 0.4, 0.6), ["b", "b"]);
  assert.equal(rangeBetween(axis, 0.2, 0.3), undefined);
  assert.deepEqual(endsOf(axis, ["b", "b"]).map((at) => at.toFixed(2)), ["0.33", "0.67"]);
});

test("keys move the upper or the lower end of a range", () => {
  const axis = factAxis([0, 10]);
  const down = movedRange(axis, null, true, -1);
  assert.deepEqual(down, [null, 9.5]);
  assert.deepEqual(movedRange(axis, down, false, 1), [0.5, 9.5]);
  assert.equal(movedRange(axis, down, true, 1), null);
  assert.deepEqual(movedRange(axis, [5, 5], true, -1), [5, 5], "the upper end stays above the lower one");
  const texts = factAxis(["a", "b", "c"]);
  assert.deepEqual(movedRange(texts, null, true, -1), [null, "b"]);
  assert.deepEqual(movedRange(texts, [null, "b"], false, 1), ["b", "b"]);
  assert.deepEqual(movedRange(texts, ["b", "b"], false, 1), ["b", "b"]);
});

test("a run is selected if it has a value in each range", () => {
  const facts = [{ key: "rate", values: [1, 2, 3, null] }, { key: "recipe", values: ["a", "b", "b", "b"] }];
  assert.equal(insideAll(facts, new Map()), null);
  assert.equal(insideAll(facts, new Map([["other", [1, 2]]])), null);
  assert.deepEqual([...insideAll(facts, new Map([["rate", [2, null]]]))], [1, 2]);
  assert.deepEqual([...insideAll(facts, new Map([["rate", [null, 2]], ["recipe", ["b", "b"]]]))], [1]);
});

test("what an address says wrongly is left out", () => {
  const { hidden, over, zooms } = readAddress("hidden=1,x,2.5,3&x=day&zoom=step,5,5&zoom=time,1&zoom=epoch,a,b");
  assert.deepEqual([hidden, over, zooms.size], [[1, 3], "", 0]);
});

/** Return a response as the portal encodes it: columns are [kind, values] in their order. */
function answer(curves, columns) {
  const parts = [];
  let head = JSON.stringify({ curves });
  head = head.padEnd(Math.ceil((head.length + 4) / 8) * 8 - 4);
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, head.length, true);
  parts.push(length, new TextEncoder().encode(head));
  for (const [Kind, values] of columns) {
    const bytes = new Uint8Array(new Kind(values).buffer);
    const padded = new Uint8Array(Math.ceil(bytes.length / 8) * 8);
    padded.set(bytes);
    parts.push(padded);
  }
  return new Blob(parts).arrayBuffer();
}

test("curves are read as the portal encodes them", async () => {
  const head = { rows: 3, axis: "step", wide: false, odd: [], last: [1.5, ""] };
  const buffer = await answer(
    [
      { ...head, key: "a", run: 1, raw: true, odd: [[2, "nan", 1]], last: [null, "nan"] },
      { ...head, key: "a", run: 2, raw: false, axis: "time", rows: 1 },
      { ...head, key: "b", run: 1, raw: true, wide: true, rows: 1 },
    ],
    [
      [Float64Array, [0, 1, 2]], [Float64Array, [10, 11, 12]], [Float32Array, [0.5, 0.25, NaN]],
      [Float64Array, [9]], [Float64Array, [99]], [Float32Array, [2]], [Float32Array, [1]], [Float32Array, [3]],
      [Uint32Array, [64]], [Uint32Array, [63]],
      [Float64Array, [7]], [Float64Array, [8]], [Float64Array, [1e-300]],
    ],
  );
  const [raw, merged, wide] = decodeCurves(buffer);
  assert.deepEqual(raw.columns.xs, [0, 1, 2]);
  assert.deepEqual(raw.columns.means, [0.5, 0.25, null]);
  assert.deepEqual([raw.columns.weights, raw.columns.finites], [[1, 1, 1], [1, 1, 0]]);
  assert.deepEqual(raw.columns.odd, [{ x: 2, name: "nan", count: 1 }]);
  assert.deepEqual([raw.last, raw.odd, merged.run], [null, "nan", 2]);
  assert.deepEqual([merged.columns.xs, merged.columns.mins, merged.columns.maxs], [[99], [1], [3]]);
  assert.deepEqual([merged.columns.weights, merged.columns.finites], [[64], [63]]);
  assert.deepEqual(wide.columns.means, [1e-300]);
});

test("a line without a value at the cursor is read beside it, but not behind its end", () => {
  const column = [undefined, 1, undefined, undefined, 2, undefined];
  assert.deepEqual([0, 1, 2, 3, 4, 5].map((index) => nearestKnown(column, index)), [0, 1, 1, 4, 4, 5]);
  assert.equal(nearestKnown([1, null, 2], 1), 1, "a gap stays a gap");
});

test("an axis places numbers by size, by decades, and texts side by side", () => {
  const plain = factAxis([0, 10, null]);
  assert.deepEqual([0, 2.5, null].map(plain.place), [0, 0.25, null]);
  assert.deepEqual(plain.ticks.map(({ text }) => text), ["0", "2", "4", "6", "8", "10"]);
  const log = factAxis([1e-4, 1e-2], true);
  assert.ok(log.isLog && Math.abs(log.place(1e-3) - 0.5) < 1e-9);
  assert.deepEqual(log.ticks.map(({ at }) => Math.round(at * 100)), [0, 50, 100]);
  assert.ok(!factAxis([0, 1], true).isLog, "zero has no place on a log axis");
  const texts = factAxis(["sgd", "adam", 3]);
  assert.deepEqual(texts.ticks, [{ at: 1 / 6, text: "3" }, { at: 0.5, text: "adam" }, { at: 5 / 6, text: "sgd" }]);
  assert.equal(factAxis([7, 7]).place(7), 0.5);
  assert.deepEqual(factAxis([null]).ticks, []);
});

test("a rank correlation is Spearman's", () => {
  assert.equal(rankCorrelation([[1, 10], [2, 100], [3, 1000]]), 1);
  assert.equal(rankCorrelation([[1, 3], [2, 2], [3, 1], ["x", 5]]), -1);
  assert.ok(Math.abs(rankCorrelation([[1, 1], [1, 2], [2, 3]]) - 0.866025) < 1e-6, "equal values share a rank");
  assert.deepEqual([rankCorrelation([[1, 1], [2, 2]]), rankCorrelation([[1, 1], [1, 2], [1, 3]])], [null, null]);
});
