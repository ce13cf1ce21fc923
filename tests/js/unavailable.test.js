import assert from "node:assert/strict";
import { test } from "node:test";

import { unavailableText } from "../../static/js/commands/unavailable.js";

const PAUSE = { legal_in: ["running"], is_optional: false };
const SAVE = { legal_in: ["running", "paused"], is_optional: true };

function reason(command, kind, run, isUnderWay = false) {
  return unavailableText({ offers: [], group: "live", ...run }, command, kind, isUnderWay);
}

test("a command that can be sent has no reason against it", () => {
  assert.equal(reason(PAUSE, "pause", { state: "running" }), "");
  assert.equal(reason(SAVE, "save_checkpoint", { state: "paused", offers: ["save_checkpoint"] }), "");
});

test("it says why a command cannot be sent", () => {
  assert.equal(reason(PAUSE, "pause", { state: "queued" }), "The run has not started yet.");
  assert.equal(reason(PAUSE, "pause", { state: "failed", group: "ended" }), "The run has ended.");
  assert.match(reason(PAUSE, "pause", { state: "lost", group: "lost" }), /in the state lost/);
  assert.equal(reason(SAVE, "save_checkpoint", { state: "running" }), "The training does not support this command.");
  assert.equal(reason(PAUSE, "pause", { state: "running" }, true), "This command is already in progress.");
});
