// A page that gets the answer of too many connections (4429) or too many requests for tickets (429) waits, longer each
// time, and requests no tickets meanwhile. A page that gets no ticket because the database is away says so, and also one
// whose ticket cannot be redeemed (1013).

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { countedRefusals, crowdedWait } from "../../static/js/run/socket/crowded.js";

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

test("no wait is shorter than the portal asks", () => {
  assert.equal(crowdedWait(0, 0.5, 3000), 7500);
  assert.equal(crowdedWait(0, 0.5, 8000), 12_000);
});

/** A socket that the portal opens, and closes at once with `code`. */
class Crowded extends EventTarget {
  static OPEN = 1;
  static closed = [];
  static code = 4429;
  readyState = 0;
  constructor() {
    super();
    queueMicrotask(() => {
      this.readyState = 1;
      this.dispatchEvent(new Event("open"));
      this.readyState = 3;
      Crowded.closed.push(Date.now());
      this.dispatchEvent(Object.assign(new Event("close"), { code: Crowded.code, reason: "", wasClean: true }));
    });
  }
  close() {}
  send() {}
}

/**
 * Follow a page for five minutes; `answer()` is the response to a request for a ticket. Return the times of the
 * requests and the page's message.
 */
async function followed(answer) {
  const asked = [];
  const told = [];
  Object.assign(globalThis, {
    window: { location: { protocol: "http:", host: "portal" }, addEventListener() {} },
    document: { cookie: "steersman_csrf=t" },
    WebSocket: Crowded,
    fetch: async () => {
      asked.push(Date.now());
      return answer();
    },
  });
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 0 });
  mock.method(performance, "now", () => Date.now() + 1);
  mock.method(Math, "random", () => 0);
  const { RunSocket } = await import("../../static/js/run/socket/socket.js");
  const page = { run: 1, addresses: { socket: "/ws/runs/1/", tickets: "/api/tickets/" } };
  const socket = new RunSocket(page, { since: () => 0, at: () => "", onFrame() {}, onLink: (link, why) => told.push([link, why]) });
  socket.connect();
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  for (let second = 0; second <= 300; second += 1) {
    mock.timers.tick(1000);
    // Fetching the ticket, reading its body and opening the socket each take turns of the event loop.
    for (let turn = 0; turn < 5; turn += 1) await settled();
  }
  mock.reset();
  mock.timers.reset();
  return { asked, told };
}

function waits(moments) {
  return moments.slice(1).map((at, place) => Math.floor((at - moments[place]) / 5000) * 5);
}

test("the socket of the page waits where there is no place", async () => {
  const json = { headers: { "Content-Type": "application/json" } };
  const { asked, told } = await followed(() => new Response('{"ticket": "t"}', json));
  assert.deepEqual(waits(Crowded.closed).slice(0, 6), [5, 10, 20, 40, 60, 60]);
  assert.equal(asked.length, Crowded.closed.length);
  assert.match(told.at(-1)[1], /too many connections/);
});

test("it waits where it gets no ticket, and as long as the portal says", async () => {
  const headers = { "Content-Type": "application/json", "Retry-After": "15" };
  const { asked, told } = await followed(() => new Response('{"error": "Too many"}', { status: 429, headers }));
  assert.deepEqual(waits(asked).slice(0, 6), [15, 15, 20, 40, 60, 60]);
  assert.match(told.at(-1)[1], /too many connections/);
});

test("while the database is away it says what the portal says", async () => {
  const headers = { "Content-Type": "application/json", "Retry-After": "2" };
  let isAway = true;
  const answer = () =>
    isAway
      ? new Response('{"error": "The database does not answer now."}', { status: 503, headers })
      : new Response('{"ticket": "t"}', { headers });
  const { told } = await followed(answer);
  assert.deepEqual(told.at(-1), ["reconnecting", "The database does not answer now."]);
  assert.ok(told.every(([link]) => link !== "open"));
  isAway = false;
  const after = await followed(answer);
  assert.ok(after.told.every(([, why]) => !why.includes("database")));
});

test("while tickets cannot be redeemed it says so, tries again and is not offline", async () => {
  const json = { headers: { "Content-Type": "application/json" } };
  Crowded.code = 1013;
  const { asked, told } = await followed(() => new Response('{"ticket": "t"}', json));
  assert.ok(asked.length > 100, `${asked.length} tries`);
  assert.ok(told.length > 100);
  assert.deepEqual([...new Set(told.map(([link]) => link))], ["reconnecting"]);
  assert.ok(told.every(([, why]) => /database is busy or unavailable.*tries again/.test(why)));
});

test("a page whose connections break off otherwise is offline after a while", async () => {
  const json = { headers: { "Content-Type": "application/json" } };
  Crowded.code = 1006;
  const { told } = await followed(() => new Response('{"ticket": "t"}', json));
  assert.deepEqual(told.at(-1), ["offline", ""]);
});
