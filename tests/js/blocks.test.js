import assert from "node:assert/strict";
import { test } from "node:test";

import { lineOf } from "../../static/js/state/series.js";
import { metrics, played } from "./story.js";

/** Return events 2 to 4 as a viewer receives them after falling behind. */
function merged() {
  const event = metrics(4, 1, [2, 3, 4, 5], { loss: [2, null, 4, 5] }, { loss: [[1, "nan"]] });
  event.blocks[0].seqs = [2, 3, 4, 4];
  return { ...event, first_seq: 2 };
}

const one = metrics(1, 1, [1], { loss: [1] });
const apart = [
  metrics(2, 1, [2], { loss: [2] }),
  metrics(3, 1, [3], { loss: [null] }, { loss: [[0, "nan"]] }),
  metrics(4, 1, [4, 5], { loss: [4, 5] }),
];

const seen = ({ seq, gap, series, latest, run }) => ({ seq, gap, latest, run, line: lineOf(series.get("loss")) });

test("float32s are as exact as they were logged, doubles stay", () => {
  const event = metrics(1, 1, [1, 2], { loss: [0.1, null], zero: [-0, 3.4028235e38], rate: [0.1, 0.2] }, { loss: [[1, "inf"]] });
  Object.assign(event.blocks[0], { float32: true, float64: ["rate"] });
  const state = played([event]);
  assert.deepEqual(lineOf(state.series.get("loss")).means, [Math.fround(0.1), null]);
  assert.deepEqual(lineOf(state.series.get("zero")).means, [-0, 2 ** 128 - 2 ** 104]);
  assert.deepEqual(lineOf(state.series.get("rate")).means, [0.1, 0.2]);
  assert.equal(state.latest.zero.value, 2 ** 128 - 2 ** 104);
  assert.deepEqual(state.latest.loss, { step: 2, time: 1002, value: null, nonfinite: "inf" });
});

test("a merged event tells what its events tell", () => {
  assert.deepEqual(seen(played([one, merged()])), seen(played([one, ...apart])));
});

test("of a merged event that is known in part the rest counts", () => {
  for (const known of [1, 2]) {
    const state = played([one, ...apart.slice(0, known), merged()]);
    assert.deepEqual(seen(state), seen(played([one, ...apart])), `${known} of three events were known`);
  }
});

test("a merged event that is known changes nothing, and one behind a gap is not taken", () => {
  const state = played([one, ...apart]);
  const before = structuredClone(seen(state));
  assert.deepEqual(seen(played([merged()], state)), before);
  const behind = played([one, { ...merged(), first_seq: 3 }]);
  assert.deepEqual([behind.seq, behind.gap], [1, true]);
});

test("of merged events the later one is newer, whatever the clock said", () => {
  const late = metrics(2, 1, [2], { loss: [2], rate: [0.1] });
  const early = metrics(3, 1, [3], { loss: [3] });
  early.blocks[0].times = [5];
  const blocks = [late, early].map(({ seq, blocks: [block] }) => ({ ...block, seqs: [seq] }));
  const together = { ...early, first_seq: 2, blocks };
  assert.deepEqual(played([one, together]).latest, played([one, late, early]).latest);
  assert.equal(played([one, together]).latest.loss.value, 3);
});

test("a series may have the name of what every object has", () => {
  for (const name of ["constructor", "toString", "valueOf"]) {
    const state = played([metrics(1, 1, [1], { [name]: [0.5] })]);
    assert.deepEqual(lineOf(state.series.get(name)).means, [0.5]);
    assert.equal(state.latest[name].value, 0.5);
  }
});
