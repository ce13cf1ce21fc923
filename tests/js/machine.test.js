import assert from "node:assert/strict";
import { test } from "node:test";

import { isIdle, machineRows, throttleText } from "../../static/js/panels/machine/devices.js";

function newest(values) {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, { step: 1, time: 1, value, nonfinite: "" }]));
}

test("each GPU is a row, in natural order, and the host is the last", () => {
  const latest = newest({
    "host/cpu": 30,
    "gpu/10/utilisation": 50,
    "gpu/2/utilisation": 97,
    "gpu/2/memory_used_mib": 2048,
    "gpu/2/memory_total_mib": 81920,
    "gpu/2/power_w": 310,
    "gpu/2/power_limit_w": 700,
    "gpu/2/temperature_c": 61,
    "train/loss": 0.5,
  });
  const rows = machineRows(latest, () => []);
  assert.deepEqual(rows.map(({ title }) => title), ["GPU 2", "GPU 10", "Host"]);
  assert.deepEqual(rows[0].cells.map(({ title, text, most }) => [title, text, most]), [
    ["Utilisation", "97 %", 100],
    ["Memory", "2.0 / 80.0 GiB", 81920],
    ["Power", "310 / 700 W", 700],
    ["Temperature", "61 °C", 100],
  ]);
  assert.deepEqual(rows[2].cells.map(({ name }) => name), ["host/cpu"]);
  assert.deepEqual(machineRows(newest({ "train/loss": 1 }), () => []), []);
});

test("what slows a GPU down is said in words, and being idle is no reason", () => {
  assert.equal(throttleText(0), "");
  assert.equal(throttleText(1), "");
  assert.equal(throttleText(1 | 4), "it draws all the power that its limit allows");
  assert.equal(throttleText(0x20 | 0x400), "its driver reports that it is too hot; NVML 0x400");
  const [row] = machineRows(newest({ "gpu/0/utilisation": 90, "gpu/0/throttle_reasons": 64 }), () => []);
  assert.equal(row.note, "Throttled: its hardware reports that it is too hot.");
});

test("a GPU is idle if it did nothing for half a minute", () => {
  const still = new Array(30).fill(0);
  assert.equal(isIdle(still), true);
  assert.equal(isIdle([...still, 80]), false);
  assert.equal(isIdle([80, ...still]), true);
  assert.equal(isIdle(still.slice(1)), false);
  const latest = newest({ "gpu/0/utilisation": 0, "gpu/1/utilisation": 90 });
  const rows = machineRows(latest, (name) => (name === "gpu/0/utilisation" ? still : [90]));
  assert.deepEqual(rows.map((row) => row.isIdle), [true, false]);
});

const STEP_TIMES = { "host/rank/0/step_ms": 40, "host/rank/1/step_ms": 100, "host/rank/2/step_ms": 42 };

test("each rank is a row before the host, with its device, and all have one scale", () => {
  const latest = newest({ ...STEP_TIMES, "host/rank/0/cpu": 97, "host/rank/1/cpu": 3, "host/rank/0/rss_mib": 512, "host/cpu": 50 });
  const environment = { device: "cuda:0", rank_devices: { 1: "cuda:1", 2: 7 } };
  const rows = machineRows(latest, () => [], { ranks: 3 }, environment);
  assert.deepEqual(rows.map(({ title }) => title), ["Rank 0 · cuda:0", "Rank 1 · cuda:1", "Rank 2", "Host"]);
  assert.deepEqual(rows[0].cells.map(({ title, text, most }) => [title, text, most]), [
    ["Step without waiting", "40 ms", 100],
    ["CPU", "97 %", 97],
    ["Memory", "512 MiB", 512],
  ]);
  assert.deepEqual(rows[1].cells.map(({ text, most }) => [text, most]), [["100 ms", 100], ["3 %", 97]]);
});

test("ranks of an earlier attempt, and the only rank, have no row", () => {
  const titles = (ranks) => machineRows(newest(STEP_TIMES), () => [], { ranks }).map(({ title }) => title);
  assert.deepEqual(titles(2), ["Rank 0", "Rank 1"]);
  assert.deepEqual(titles(1), []);
});

test("a rank that is much slower than the others is named", () => {
  const past = (slow) => (name) => new Array(20).fill(name === "host/rank/1/step_ms" ? slow : STEP_TIMES[name] ?? 0);
  const notes = (slow) => machineRows(newest(STEP_TIMES), past(slow), { ranks: 3 }).map(({ note }) => note);
  assert.deepEqual(notes(100), ["", "Slower than the other ranks: a step takes 100 ms without waiting, theirs 41 ms.", ""]);
  assert.deepEqual(notes(60), ["", "", ""]);
  const few = machineRows(newest(STEP_TIMES), (name) => past(100)(name).slice(16), { ranks: 3 });
  assert.deepEqual(few.map(({ note }) => note), ["", "", ""]);
});
