import assert from "node:assert/strict";
import { test } from "node:test";

import { newestOfCommands } from "../../static/js/commands/stages.js";
import { kindText } from "../../static/js/panels/checkpoints.js";
import { linkText } from "../../static/js/run/link_text.js";

test("it calls nothing live beside a run that is not under way: the dot is the page's connection", () => {
  const groups = { waiting: "connected", live: "live", lost: "connected", ended: "connected" };
  for (const [group, text] of Object.entries(groups)) assert.equal(linkText("live", { group }), text, group);
  assert.equal(linkText("live", null), "connected");
  assert.match(linkText("database", { group: "ended" }), /up to 2 s late/);
  assert.equal(linkText("reconnecting", { group: "live" }), "reconnecting");
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
