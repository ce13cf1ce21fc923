// What screen readers are told about a run.

import assert from "node:assert/strict";
import test from "node:test";

import { Announcer } from "../../static/js/run/announcer.js";

globalThis.Node ??= { TEXT_NODE: 3 };

/** A live region that remembers what it said. */
function fakeRegion() {
  const said = [];
  return {
    said,
    get textContent() {
      return said.at(-1) ?? "";
    },
    set textContent(text) {
      said.push(text);
    },
  };
}

const run = (state, more = {}) => ({ state, group: ["running", "paused"].includes(state) ? "live" : "other", ...more });

test("each change of the state is announced once, and the first look is silent", () => {
  const region = fakeRegion();
  const announcer = new Announcer(region);
  for (const state of ["queued", "queued", "running", "running", "paused", "paused", "running", "finished"])
    announcer.look(run(state, { step: Math.random() }));
  assert.deepEqual(region.said, ["State: running.", "State: paused.", "State: running.", "State: finished."]);
});

test("only the begin and the end of what keeps commands or steps waiting is announced", () => {
  const region = fakeRegion();
  const announcer = new Announcer(region);
  const since = { not_looking_since: "2026-01-01T00:00:00Z" };
  announcer.look(run("running"));
  for (let tick = 0; tick < 3; tick += 1) announcer.look(run("running", since));
  announcer.look(run("running", { not_looking_since: null }));
  announcer.look(run("running", { stalled_since: "2026-01-01T00:00:00Z" }));
  announcer.look(run("running"));
  assert.deepEqual(region.said, [
    "The script no longer reads run.stopping, so commands wait.",
    "The script reads run.stopping again.",
    "The training is stalled: it completes no steps.",
    "The training completes steps again.",
  ]);
});

test("the end of a run is announced without what it ends", () => {
  const region = fakeRegion();
  const announcer = new Announcer(region);
  announcer.look(run("running", { stalled_since: "2026-01-01T00:00:00Z" }));
  announcer.look(run("failed", { stalled_since: "2026-01-01T00:00:00Z" }));
  assert.deepEqual(region.said, ["State: failed."]);
});
