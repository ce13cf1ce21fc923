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
  assert.equal(row.throttled, "its hardware reports that it is too hot");
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
