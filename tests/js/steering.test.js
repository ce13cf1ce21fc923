import assert from "node:assert/strict";
import { test } from "node:test";

import { canBeCancelled, changeText, commandText, conditionsOf } from "../../static/js/commands/text.js";
import {
  attemptStarts,
  clusterMarks,
  interventionsOf,
  isReplaced,
  markText,
} from "../../static/js/commands/interventions.js";
import { summaryOf } from "../../static/js/knobs/panel_fold.js";
import {
  checked,
  keyStep,
  limitsOf,
  placesOf,
  positionOf,
  rangeText,
  scaled,
  typedValue,
  valueAfterKey,
  valueAt,
} from "../../static/js/knobs/scale.js";
import { lastChange } from "../../static/js/knobs/values.js";
import { exactValue, roundedValue } from "../../static/js/shared/format.js";

const RATE = { name: "learning_rate", input: "number", step: null, minimum: 1e-6, maximum: 1, scale: "log" };
const COUNT = { name: "accumulate", input: "number", step: 1, minimum: 1, maximum: 64, scale: "linear" };
const SHARE = { name: "dropout", input: "number", step: null, minimum: 0, maximum: 0.5, scale: "linear" };
const OPEN = { name: "margin", input: "number", step: null, minimum: null, maximum: null, scale: "linear" };

test("it puts decades at even places of a logarithmic slider, and reads round values back", () => {
  const limits = limitsOf(RATE, 0.003);
  assert.deepEqual(limits, { low: 1e-6, high: 1 });
  assert.deepEqual(
    [1e-6, 1e-3, 1].map((value) => positionOf(RATE, limits, value)),
    [0, 500, 1000],
  );
  assert.equal(valueAt(RATE, limits, 500), 0.001);
  assert.equal(valueAt(RATE, limits, 0), 1e-6);
  assert.equal(valueAt(RATE, limits, placesOf(RATE, limits)), 1);
  for (const place of [1, 137, 580, 999]) {
    const value = valueAt(RATE, limits, place);
    assert.equal(value, Number(value.toPrecision(3)));
    assert.equal(positionOf(RATE, limits, value), place);
  }
});

test("it gives whole numbers to a knob that takes those, each by one key", () => {
  const limits = limitsOf(COUNT, 4);
  const step = keyStep(COUNT, limits);
  const reached = new Set();
  for (let place = 0; place <= placesOf(COUNT, limits); place += step) reached.add(valueAt(COUNT, limits, place));
  assert.equal(reached.size, 64);
  assert.ok([...reached].every(Number.isInteger));
  assert.equal(valueAt(SHARE, limitsOf(SHARE, 0.1), 333), 0.1665);
});

test("it moves by a hundredth, a thousandth or a tenth of the slider, and to another value with each key", () => {
  const press = (knob, value, key, shiftKey = false) => valueAfterKey(knob, limitsOf(knob, value), value, { key, shiftKey });
  assert.deepEqual(
    ["ArrowRight", "ArrowUp", "ArrowLeft", "ArrowDown", "PageUp", "PageDown"].map((key) => press(SHARE, 0.2, key)),
    [0.205, 0.205, 0.195, 0.195, 0.25, 0.15],
  );
  assert.deepEqual(
    ["ArrowRight", "ArrowLeft", "PageUp"].map((key) => press(SHARE, 0.2, key, true)),
    [0.2005, 0.1995, 0.25],
  );
  assert.deepEqual(
    ["ArrowRight", "ArrowLeft", "PageUp", "PageDown"].map((key) => press(COUNT, 30, key)),
    [31, 29, 36, 24],
  );
  assert.equal(press(COUNT, 30, "ArrowRight", true), 31);
  // Near its lower end, many places of this slider are the same whole number.
  const samples = { ...COUNT, maximum: 100_000, scale: "log" };
  assert.deepEqual([press(samples, 1, "ArrowRight"), press(samples, 2, "ArrowLeft", true)], [2, 1]);
  // With three digits, the next places are on the wrong side of this value.
  const narrow = { ...RATE, minimum: 0.1, maximum: 0.2 };
  assert.equal(press(narrow, 0.1241, "ArrowRight", true), 0.125);
  assert.deepEqual([press(SHARE, 0.499, "PageUp"), press(SHARE, 0.5, "ArrowRight"), press(SHARE, 0, "ArrowLeft")], [0.5, 0.5, 0]);
  assert.deepEqual(["Home", "Enter", "5"].map((key) => press(SHARE, 0.2, key)), [null, null, null]);
});

test("it spans the surroundings of the value where a knob sets no limit", () => {
  assert.deepEqual(limitsOf(OPEN, 2), { low: 0, high: 20 });
  assert.deepEqual(limitsOf(OPEN, -1), { low: -11, high: 1 });
  assert.deepEqual(limitsOf({ ...RATE, maximum: null }, 0.01), { low: 1e-6, high: 0.1 });
  assert.ok(limitsOf(OPEN, 0).high > limitsOf(OPEN, 0).low);
});

test("it takes what a person types, or says what the knob takes", () => {
  assert.deepEqual(typedValue(RATE, " 3e-4 "), { value: 0.0003 });
  const range = "learning_rate takes a number from 0.000001 to 1, not";
  for (const typed of ["quick", "", "Infinity", "0x1", "1_0"])
    assert.equal(typedValue(RATE, typed).problem, `${range} '${typed}'.`);
  assert.equal(typedValue(RATE, "2").problem, `${range} 2.`);
  assert.equal(typedValue(COUNT, "2.5").problem, "accumulate takes a whole number from 1 to 64, not 2.5.");
  assert.deepEqual(typedValue(COUNT, "1e1"), { value: 10 });
  const free = { name: "n", input: "number", step: 1, minimum: null, maximum: null };
  assert.deepEqual(checked(free, 2 ** 53), { value: 2 ** 53 });
  const ends = "from -9007199254740992 to 9007199254740992";
  assert.equal(typedValue(free, "9007199254740994").problem, `n takes a whole number ${ends}, not 9007199254740994.`);
  assert.equal(checked({ ...free, minimum: 2 }, 1).problem, "n takes a whole number of at least 2, not 1.");
  assert.equal(checked({ ...OPEN, maximum: 2 }, 3).problem, "margin takes a number of at most 2, not 3.");
  assert.deepEqual(checked(OPEN, -1e9), { value: -1e9 });
  assert.equal(rangeText({ minimum: 0, maximum: null }), "at least 0");
  assert.equal(rangeText({ minimum: null, maximum: 4 }), "at most 4");
});

test("it scales a value only to what the knob takes", () => {
  assert.equal(scaled(RATE, 0.003, 0.5), 0.0015);
  assert.equal(scaled(RATE, 0.6, 2), null);
  assert.equal(scaled(COUNT, 1, 0.5), null);
  assert.equal(scaled(OPEN, 0, 2), null);
});

test("it writes values so that they can be told apart", () => {
  assert.deepEqual([0.0003, 3e-7, 0.1 + 0.2, 1234567, true, false, "sum", null].map(exactValue), [
    "0.0003",
    "3e-7",
    "0.3",
    "1234567",
    "on",
    "off",
    "sum",
    "–",
  ]);
});

test("it tells no more digits of a value in effect than it has", () => {
  assert.deepEqual([0.000999999999, 0.0004, 0.026688123].map(roundedValue), ["0.001", "0.0004", "0.02669"]);
});

const SET = {
  id: "1",
  command: "set_knob",
  state: "applied",
  author: "Ada",
  arguments: { knob: "learning_rate", value: 0.001, factor: null, group: "" },
  old: 0.003,
  new: 0.001,
  effective: 0.0004,
  step: 1204,
  attempt: 1,
  applied_at: "2026-01-02T03:04:05.000Z",
  sent_at: "2026-01-02T03:04:04.000Z",
};

test("it finds the last change of a knob by when it was applied, not by when it was sent", () => {
  const rate = { groups: [] };
  const second = { ...SET, id: "2", old: 0.001, new: 0.002, applied_at: "2026-01-02T03:09:00.000Z" };
  assert.equal(lastChange([], rate, ""), null);
  assert.deepEqual(lastChange([SET, second], rate, ""), { before: 0.001, after: 0.002 });
  assert.deepEqual(lastChange([second, SET], rate, ""), { before: 0.001, after: 0.002 }, "SET was scheduled");
  const more = ["sent", "delivered", "refused", "expired"].map((state) => ({ ...second, state, old: null, new: null }));
  assert.deepEqual(lastChange([SET, ...more], rate, ""), { before: 0.003, after: 0.001 });
  assert.deepEqual(lastChange([SET, { ...second, new: 0.001 }], rate, ""), { before: 0.003, after: 0.001 }, "no change");
  assert.equal(lastChange([{ ...SET, old: null }], rate, ""), null);
  assert.deepEqual(lastChange([{ ...SET, old: true, new: false }], rate, ""), { before: true, after: false });
});

test("it finds the last change of a group, and of all groups if they had one value", () => {
  const knob = { groups: ["a", "b"] };
  const all = { ...SET, arguments: { group: "" }, old: { a: 1, b: 1 }, new: { a: 2, b: 2 } };
  const one = { ...SET, arguments: { group: "b" }, old: 2, new: 3, applied_at: "2026-01-02T03:09:00.000Z" };
  const again = { ...all, old: { a: 2, b: 3 }, new: { a: 4, b: 4 }, applied_at: "2026-01-02T03:10:00.000Z" };
  const changes = (...commands) => ["", "a", "b"].map((group) => lastChange(commands, knob, group));
  assert.deepEqual(changes(all), Array(3).fill({ before: 1, after: 2 }));
  assert.deepEqual(changes(all, one), [null, { before: 1, after: 2 }, { before: 2, after: 3 }]);
  assert.deepEqual(changes(all, one, again), [null, { before: 2, after: 4 }, { before: 3, after: 4 }]);
});

test("it says what a command asks, and what it did", () => {
  assert.equal(commandText(SET), "Learning rate 0.003 → 0.001 (in effect 0.0004)");
  assert.equal(commandText({ ...SET, state: "sent" }), "Learning rate → 0.001");
  const halve = {
    ...SET,
    state: "sent",
    arguments: { knob: "learning_rate", value: null, factor: 0.5, group: "head" },
  };
  assert.equal(commandText(halve), "Learning rate (head) × 0.5");
  assert.equal(commandText({ command: "stop", arguments: { checkpoint: false } }), "Stop without a checkpoint");
  assert.equal(
    commandText({ command: "extend", arguments: { epochs: 5 }, old: 10, new: 15 }),
    "5 more epochs (10 → 15)",
  );
  assert.equal(commandText({ command: "note", arguments: { text: "spike" } }), "Note: spike");
  assert.equal(commandText({ command: "dance", arguments: {} }), "dance");
  assert.equal(markText(SET), "Learning rate 0.003 → 0.001 (in effect 0.0004) · step 1204 · Ada");
});

test("it tells groups apart only where they differ", () => {
  const both = { old: { a: 1, b: 1 }, new: { a: 2, b: 2 }, effective: null };
  assert.equal(changeText(both), "1 → 2");
  assert.equal(changeText({ ...both, new: { a: 2, b: 3 } }), "a 1 → 2, b 1 → 3");
  assert.equal(
    changeText({ ...both, effective: { a: 0.5, b: 0.25 } }),
    "a 1 → 2 (in effect 0.5), b 1 → 2 (in effect 0.25)",
  );
  assert.equal(changeText({ old: true, new: false, effective: null }), "on → off");
});

test("it names schedule, expiry and precondition while they matter", () => {
  const inALap = { state: "delivered", at_step: 200, at_epoch: 3, at_roll_backs: 0 };
  assert.deepEqual(
    conditionsOf(inALap, () => ""),
    ["at step 200", "at the end of epoch 3", "after 0 rollbacks"],
  );
  const waiting = { state: "delivered", at_step: 2000, expected_value: 0.003, expires_at: "2026-01-02T03:04:05Z" };
  assert.deepEqual(
    conditionsOf(waiting, () => "soon"),
    ["at step 2000", "only if it is still 0.003", "until soon"],
  );
  assert.deepEqual(
    conditionsOf({ ...waiting, state: "applied" }, () => "soon"),
    ["at step 2000"],
  );
});

test("it offers to cancel what has not taken effect", () => {
  const may = (state, more = {}) => canBeCancelled({ command: "stop", state, ...more });
  assert.deepEqual([may("sending"), may("sent"), may("delivered"), may("applied")], [false, true, false, false]);
  assert.equal(may("delivered", { at_step: 9 }), true);
  assert.equal(may("sent", { command: "cancel" }), false);
});

test("it marks what took effect at a step, in the order of steps", () => {
  const commands = [
    SET,
    { ...SET, id: "2", step: 7, command: "note", arguments: { text: "x" } },
    { ...SET, id: "3", state: "refused" },
    { ...SET, id: "4", step: null },
    { ...SET, id: "5", command: "cancel" },
  ];
  assert.deepEqual(
    interventionsOf(commands).map((command) => command.id),
    ["2", "1"],
  );
});

test("it leaves out what a later attempt trained again", () => {
  const attempts = [
    { number: 1, resumed_from_step: null },
    { number: 2, resumed_from_step: 1000 },
  ];
  const begun = attemptStarts(attempts, false);
  assert.equal(isReplaced(SET, begun), true);
  assert.equal(isReplaced({ ...SET, step: 1000 }, begun), false);
  assert.equal(isReplaced({ ...SET, attempt: 2 }, begun), false);
  assert.equal(isReplaced({ ...SET, command: "note" }, begun), false);
  const anew = [...attempts, { number: 3, resumed_from_step: null }];
  assert.equal(isReplaced({ ...SET, step: 3 }, attemptStarts(anew, false)), true);
  const byScript = attemptStarts(anew, true);
  assert.equal(isReplaced({ ...SET, step: 3 }, byScript), false, "a script may have resumed by itself");
});

test("it puts marks together that lie too close to be told apart", () => {
  const marks = [10, 20, 33, 60].map((x) => ({ x }));
  assert.deepEqual(
    clusterMarks(marks, 15).map(({ x, marks: own }) => [x, own.length]),
    [
      [21.5, 3],
      [60, 1],
    ],
  );
  assert.deepEqual(clusterMarks([], 15), []);
});

test("it tells the values of knobs on a line", () => {
  const knobs = [
    { name: "learning_rate", value: 0.001, unit: "" },
    { name: "weight_decay", value: { matrices: 0.1, biases: 0 }, unit: "" },
    { name: "clip", value: { matrices: 5, biases: 5 }, unit: "" },
    { name: "cache", value: 4, unit: "GiB" },
    { name: "mirror", value: true, unit: "" },
  ];
  assert.equal(summaryOf(knobs), "Learning rate 0.001 · Weight decay 0.1 / 0 · Clip 5 · Cache 4 GiB · Mirror on");
  assert.equal(summaryOf([]), "");
});
