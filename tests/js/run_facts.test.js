import assert from "node:assert/strict";
import { test } from "node:test";

import { newestOfCommands, withoutRepeatedStates } from "../../static/js/commands/stages.js";
import { kindText } from "../../static/js/panels/checkpoints.js";
import { linkSentence, linkText } from "../../static/js/run/link_text.js";

test("it calls nothing live beside a run that is not under way: the dot is the page's connection", () => {
  const groups = { waiting: "connected", live: "live", lost: "connected", ended: "connected" };
  for (const [group, text] of Object.entries(groups)) assert.equal(linkText("live", { group }), text, group);
  assert.equal(linkText("live", null), "connected");
  assert.match(linkText("database", { group: "ended" }), /up to 2 s late/);
  assert.equal(linkText("reconnecting", { group: "live" }), "reconnecting");
});

test("it says how late a page is, and what an outage of the database means for the training", () => {
  for (const group of ["live", "ended"]) {
    assert.equal(linkText("late", { group }), "late: updates arrive some seconds late");
    assert.equal(linkText("unavailable", { group }), "database unavailable");
    assert.equal(linkText("unwritable", { group }), "database takes no changes");
    for (const link of ["live", "late", "database", "reconnecting"]) assert.equal(linkSentence(link, { group }), "");
  }
  assert.match(linkSentence("unavailable", { group: "live" }), /does not answer. The training continues/);
  assert.match(linkSentence("unavailable", { group: "ended" }), /does not answer. This page shows the last known state/);
  assert.doesNotMatch(linkSentence("unavailable", null), /training/);
  assert.match(linkSentence("unwritable", { group: "live" }), /takes no changes now.* The training continues/);
  assert.equal(linkSentence("unwritable", { group: "ended" }), "");
});

test("it lists each command once, as it stands now", () => {
  const command = (seq, id, state) => ({ seq, kind: "command", id, state });
  const events = [
    { seq: 1, kind: "status", state: "running" },
    command(2, 7, "sent"),
    command(3, 7, "delivered"),
    command(4, 8, "sent"),
    { seq: 5, kind: "checkpoint", id: 7 },
    command(6, 7, "applied"),
  ];
  assert.deepEqual(newestOfCommands(events).map(({ seq }) => seq), [1, 4, 5, 6]);
  assert.deepEqual(newestOfCommands([]), []);
});

test("it does not say again that a run goes on where its plan or what it takes changed", () => {
  const status = (seq, state, remark = "") => ({ seq, kind: "status", state, reason: "", remark });
  const events = [
    status(1, "running"),
    status(2, "running"),
    { seq: 3, kind: "checkpoint" },
    status(4, "running", "another supervisor took the training over"),
    status(5, "paused"),
    status(6, "running"),
  ];
  assert.deepEqual(withoutRepeatedStates(events).map(({ seq }) => seq), [1, 3, 4, 5, 6]);
});

test("it calls one checkpoint the best and one the newest", () => {
  const kept = [
    { id: 9, reason: "last" },
    { id: 8, reason: "best" },
    { id: 7, reason: "last" },
    { id: 6, reason: "best" },
    { id: 5, reason: "named" },
    { id: 4, reason: "named" },
  ];
  const texts = kept.map((checkpoint) => kindText(checkpoint, kept));
  assert.deepEqual(texts, ["newest", "best", "earlier", "best until then", "named", "named"]);
});
