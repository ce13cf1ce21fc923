// The page's texts for the causes of alerts and commands, in the reader's language.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { actionText, afterRollBackText, alertTexts, reasonText } from "../../static/js/shared/alert_texts.js";

afterEach(() => delete globalThis.django);

const chinese = {
  Spike: "尖峰",
  "Alert {alert}: {title} · by a link sent to {destination}": "告警 {alert}：{title} · 发给 {destination}",
  "{free} GiB of {total} GiB are free.": "{total} GiB 中还剩 {free} GiB 可用。",
};

function speakChinese() {
  globalThis.django = { gettext: (text) => chinese[text] ?? text };
}

const link = { kind: "link", alert: 5, detector: "spike", title: "Spike", destination: "on call" };

test("a reason that nobody gave is told in the reader's language, and one that a person gave stays", () => {
  assert.equal(reasonText({ reason: "x", cause: link }), "Alert 5: Spike · by a link sent to on call");
  assert.equal(reasonText({ reason: "x", cause: { ...link, destination: "" } }), "Alert 5: Spike · by a link of a message");
  assert.equal(reasonText({ reason: "x", cause: { kind: "alert", detector: "spike", title: "Spike", series: "loss" } }), "Spike · loss");
  assert.equal(reasonText({ reason: "x", cause: { kind: "replay", run: 3 } }), "Replay of run 3.");
  speakChinese();
  assert.equal(reasonText({ reason: "x", cause: link }), "告警 5：尖峰 · 发给 on call");
  assert.equal(reasonText({ reason: "Spike", cause: null }), "Spike");
});

test("a lost run and a full disk say what happened", () => {
  const disk = { detector: "disk", title: "Disk nearly full", text: "x", cause: { kind: "little_space", free: 4, total: 100 } };
  assert.equal(alertTexts(disk).text, "4 GiB of 100 GiB are free.");
  const lost = { detector: "lost", title: "Lost", text: "x", cause: { kind: "silence", seconds: 12 } };
  assert.equal(alertTexts(lost).text, "No heartbeat from the training host for 12 s.");
  const since = new Date();
  since.setHours(14, 3, 0, 0);
  const cutOff = { kind: "silent_host", since: since.toISOString() };
  const sentence = "No contact with the training host since 14:03:00. If the training is still running, its records are on the disk of that host.";
  assert.equal(reasonText({ reason: "x", cause: cutOff }), sentence);
  assert.equal(alertTexts({ detector: "crash", title: "Crashed", text: "no luck", cause: null }).text, "no luck");
  speakChinese();
  assert.equal(alertTexts(disk).text, "100 GiB 中还剩 4 GiB 可用。");
});

test("why a rule did not act follows from a word", () => {
  const held = { action: "pause", action_state: "held_back", action_text: "x" };
  assert.match(actionText({ ...held, held_back: "same_cause" }), /within a minute of this one\.$/);
  assert.match(actionText({ ...held, held_back: "" }), /: x$/);
});

test("how a run ended is told in the reader's language, and what a training said stays", () => {
  chinese["Rank {rank} was ended by {signal}."] = "第 {rank} 号进程被 {signal} 终止。";
  speakChinese();
  const told = (cause) => reasonText({ reason: "x", cause });
  assert.equal(told({ kind: "signal", signal: "SIGKILL", rank: 2 }), "第 2 号进程被 SIGKILL 终止。");
  assert.equal(told({ kind: "signal", signal: "SIGKILL", rank: null }), "The training process was ended by SIGKILL.");
  assert.equal(
    told({ kind: "exit_code", code: 3, last_line: "{code}", rank: null }),
    "The training process ended with exit code 3. Its last line was: {code}",
  );
  assert.match(told({ kind: "killed_for_memory", rank: 1 }), /^Rank 1 ran out of host memory: .* or allow more memory\.$/);
  assert.equal(told({ kind: "scheduler", why: "out_of_time" }), "Slurm: out of time.");
  for (const kind of ["unwatched", "rebooted", "interrupted", "end_process"]) assert.ok(told({ kind, rank: null }).length > 20);
  assert.equal(told(null), "x");
});

test("a loss that went wrong says in which layer it began", () => {
  const cause = { kind: "layer", layer: "layer4.1.conv2", measure: "gradient", step: 1204, times: 8.25 };
  const alert = { detector: "spike", title: "Spike", text: "x", cause };
  assert.match(alertTexts(alert).text, /usual level\. The fault began in layer4\.1\.conv2, whose gradient norm was 8\.3× its usual value at step 1.?204\.$/);
  assert.match(alertTexts({ ...alert, cause: { ...cause, times: null } }).text, /gradient norm was not finite at step 1.?204\.$/);
});

test("what became of a run after a rollback is told", () => {
  const found = { kind: "recovered", series: "train/loss", step: 451, now: "0.28 ± 0.02", before: "0.33 ± 0.02" };
  assert.equal(
    afterRollBackText({ after_roll_back: found }),
    "Since the rollback: train/loss 0.28 ± 0.02 at step 451, 0.33 ± 0.02 before the fault.",
  );
  assert.equal(
    afterRollBackText({ after_roll_back: { ...found, before: "" } }),
    "Since the rollback: train/loss 0.28 ± 0.02 at step 451.",
  );
  assert.match(afterRollBackText({ after_roll_back: { kind: "fault_returned", step: 500 } }), /began again .* at step 500\.$/);
  assert.equal(afterRollBackText({ after_roll_back: null }), "");
});
