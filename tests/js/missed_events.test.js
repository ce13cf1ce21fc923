// An event that the server knows and the page does not have.

import assert from "node:assert/strict";
import { test } from "node:test";
import { missedEvent } from "../../static/js/run/socket/missed_events.js";

test("it counts from when it first heard of an event, and forgets it once it is held", () => {
  let known = missedEvent(null, 10, 10, 0);
  assert.equal(known, null);
  known = missedEvent(known, 10, 12, 1000);
  assert.deepEqual(known, { seq: 12, at: 1000 });
  // The next pong names a later event, and does not restart the wait.
  known = missedEvent(known, 11, 20, 3000);
  assert.deepEqual(known, { seq: 12, at: 1000 });
  assert.equal(missedEvent(known, 12, 0, 4000), null);
  assert.deepEqual(missedEvent(known, 12, 20, 4000), { seq: 20, at: 4000 });
});

test("an older server says nothing, and nothing is missing", () => {
  assert.equal(missedEvent(null, 10, undefined, 0), null);
});
