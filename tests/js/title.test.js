// The title of the tab.

import assert from "node:assert/strict";
import test from "node:test";

import { titleOf } from "../../static/js/run/header.js";

const NOTHING = { latest: {}, alerts: [] };
const title = (run, more = {}) => titleOf({ ...NOTHING, ...more, run: { name: "digits", group: "live", epoch: 0, ...run } });

test("the title tells state, progress and loss", () => {
  const latest = { "train/loss": { value: 0.25, nonfinite: "" } };
  const run = { state: "running", step: 459, total_steps: 1000, epoch: 4, total_epochs: 10 };
  assert.equal(title(run, { latest }), "running · 45 % · loss 0.25 – digits");
  assert.equal(title({ ...run, state: "paused" }), "paused · 45 % – digits");
  const alerts = [{ severity: "critical", state: "open", id: 1, step: 3 }];
  assert.equal(title(run, { alerts }), "⚠ 1 critical · running · 45 % – digits");
});

test("the progress is the epoch if the number of steps is unknown", () => {
  const run = { state: "running", step: 250, steps_per_epoch: 100, epoch: 2, total_epochs: 10 };
  assert.equal(title(run), "running · epoch 3 / 10 – digits");
  assert.equal(title({ ...run, state: "failed", group: "ended" }), "failed · epoch 2 / 10 – digits");
});

test("nothing is said of progress that is unknown, that has not begun or that the state tells", () => {
  assert.equal(title({ state: "running", step: 250 }), "running – digits");
  assert.equal(title({ state: "queued", group: "waiting", step: 0, total_steps: 100 }), "queued – digits");
  assert.equal(title({ state: "finished", group: "ended", step: 100, total_steps: 100 }), "finished – digits");
  assert.equal(title({ state: "running", step: 999, total_steps: 1000 }), "running · 99 % – digits");
});
