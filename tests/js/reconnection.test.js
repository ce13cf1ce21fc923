// When a server ends, its viewers reconnect within two seconds at random times, and no page waits longer.

import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket as ReconnectingSocket } from "partysocket";
import { LONGEST_PAUSE_MS, pauseFor, reconnectionOptions } from "../../static/js/run/socket/reconnection.js";

test("a crowd is spread evenly over two seconds", () => {
  const pauses = Array.from({ length: 1000 }, (_, place) => pauseFor(place / 1000));
  assert.ok(Math.min(...pauses) > 0 && Math.max(...pauses) <= LONGEST_PAUSE_MS);
  for (let second = 0; second < 2; second += 1) {
    const within = pauses.filter((pause) => pause >= second * 1000 && pause < (second + 1) * 1000);
    assert.ok(within.length > 450 && within.length < 550, `${within.length} of 1000 in second ${second}`);
  }
});

test("the socket takes another pause before each attempt, and none before the first", async () => {
  const attempts = 20;
  const pauses = [];
  const wait = globalThis.setTimeout;
  await new Promise((resolve) => {
    globalThis.setTimeout = (act, pause) => {
      if (pause <= LONGEST_PAUSE_MS) pauses.push(pause);
      if (pauses.length > attempts) resolve();
      else if (pause <= LONGEST_PAUSE_MS) wait(act, 0);
    };
    const options = reconnectionOptions();
    options.WebSocket = Refused;
    new ReconnectingSocket("ws://portal.example/", [], options);
  });
  globalThis.setTimeout = wait;
  assert.equal(pauses[0], 0);
  assert.equal(new Set(pauses.slice(1)).size, attempts);
  assert.ok(Math.min(...pauses.slice(1)) > 0);
});

/** A socket that is never accepted. */
class Refused extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  readyState = 0;

  constructor() {
    super();
    queueMicrotask(() => this.close());
  }

  close() {
    this.readyState = 3;
    const closed = new Event("close");
    closed.code = 1006;
    this.dispatchEvent(closed);
  }
}
