// A page that is told of too many connections (4429): it waits, longer each time, and does not ask for tickets meanwhile.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { countedRefusals, crowdedWait } from "../../static/js/run/crowded.js";

test("waits grow up to two minutes, and pages that were refused together come apart", () => {
  assert.deepEqual(
    [0, 1, 2, 3, 4, 50].map((refusals) => crowdedWait(refusals, 0)),
    [5000, 10_000, 20_000, 40_000, 60_000, 60_000],
  );
  assert.equal(crowdedWait(0, 0.5), 7500);
  assert.equal(crowdedWait(9, 1), 120_000);
});

test("a page that stayed for a minute begins anew, and one that is cut at once does not", () => {
  assert.equal(countedRefusals(3, 0, 500_000), 3);
  assert.equal(countedRefusals(3, 490_000, 500_000), 3);
  assert.equal(countedRefusals(3, 100_000, 500_000), 0);
});

test("the socket of the page waits", async () => {
  let tickets = 0;
  const refused = [];
  const told = [];
  class Portal extends EventTarget {
    static OPEN = 1;
    readyState = 0;
    constructor() {
      super();
      queueMicrotask(() => {
        this.readyState = 1;
        this.dispatchEvent(new Event("open"));
        this.readyState = 3;
        refused.push(Date.now());
        this.dispatchEvent(Object.assign(new Event("close"), { code: 4429, reason: "", wasClean: true }));
      });
    }
    close() {}
    send() {}
  }
  const fakes = {
    window: { location: { protocol: "http:", host: "portal" }, addEventListener() {} },
    document: { cookie: "steersman_csrf=t" },
    WebSocket: Portal,
    fetch: async () => {
      tickets += 1;
      return new Response('{"ticket": "t"}', { headers: { "Content-Type": "application/json" } });
    },
  };
  Object.assign(globalThis, fakes);
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 0 });
  mock.method(Math, "random", () => 0);
  const { RunSocket } = await import("../../static/js/run/socket.js");
  const page = { run: 1, addresses: { socket: "/ws/runs/1/", tickets: "/api/tickets/" } };
  const socket = new RunSocket(page, { since: () => 0, onFrame() {}, onLink: (link, why) => told.push([link, why]) });
  socket.connect();
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  for (let second = 0; second <= 300; second += 1) {
    mock.timers.tick(1000);
    // The ticket is fetched, its body read, and the socket made: each takes turns of the loop.
    for (let turn = 0; turn < 5; turn += 1) await settled();
  }
  mock.reset();
  mock.timers.reset();
  const waits = refused.slice(1).map((at, place) => at - refused[place]);
  assert.deepEqual(waits.slice(0, 6).map((wait) => Math.floor(wait / 5000) * 5), [5, 10, 20, 40, 60, 60]);
  assert.equal(tickets, refused.length);
  assert.match(told.at(-1)[1], /too many connections/);
});
