import assert from "node:assert/strict";
import { test } from "node:test";
import { applyEvent, emptyState } from "../../static/js/state/run_state.js";
import { watcherLines } from "../../static/js/run/watchers_text.js";
import { hello } from "./story.js";

test("who watches is what was told last", () => {
  const state = applyEvent(emptyState(), hello(0));
  assert.deepEqual(state.watchers, { count: 1, guests: 0, names: ["Ada"] });
  applyEvent(state, { kind: "watchers", count: 3, guests: 1, names: ["Ada", "Zoë"] });
  assert.deepEqual(state.watchers, { count: 3, guests: 1, names: ["Ada", "Zoë"] });
});

test("names come first, then how many more there are", () => {
  assert.deepEqual(watcherLines({ count: 1, guests: 0, names: ["Ada"] }), ["Ada"]);
  assert.deepEqual(watcherLines({ count: 9, guests: 2, names: ["Ada"] }), ["Ada", "and 6 more", "by share links: 2"]);
});
