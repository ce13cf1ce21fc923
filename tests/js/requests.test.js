// Each failure of a request is a sentence for people, and never a status or the browser's own words alone.

import assert from "node:assert/strict";
import { test } from "node:test";

import { getBinary, getFragment, getJson, HttpError, NoAnswer, postJson, repeatedText } from "../../static/js/shared/http.js";

globalThis.document = { cookie: "", body: { dataset: {} }, querySelector: () => null };

function answering(status, { said, headers = {} } = {}) {
  const type = said ? "application/json" : "text/html";
  const body = said ? JSON.stringify({ error: said }) : "<h1>Bad Gateway</h1>";
  globalThis.fetch = async () => new Response(body, { status, headers: { "Content-Type": type, ...headers } });
}

async function failure(request) {
  try {
    await request();
  } catch (error) {
    return error;
  }
  return assert.fail("the request did not fail");
}

async function sentence(status, more) {
  answering(status, more);
  const error = await failure(() => postJson("/api/", {}));
  assert.ok(error instanceof HttpError && error.status === status);
  return error.message;
}

test("an answer of the proxy says that the portal cannot be reached, and to try again", async () => {
  for (const status of [502, 503, 504]) assert.match(await sentence(status), /being restarted.*Try again in a moment\.$/);
});

test("the portal's own sentence is unchanged", async () => {
  assert.equal(await sentence(503, { said: "The database is busy." }), "The database is busy.");
});

test("the last known answer is an error, unless the request wants it while the database is unavailable", async () => {
  const headers = { "Steersman-Last-Known": "2026-01-01T00:00:00Z" };
  const ofType = (type, body) => async () => new Response(body, { status: 503, headers: { ...headers, "Content-Type": type } });
  globalThis.fetch = ofType("application/json", JSON.stringify({ error: "The database is away.", last_known: [1] }));
  assert.deepEqual(await getJson("/api/", "", { lastKnown: true }), [1]);
  const error = await failure(() => getJson("/api/"));
  assert.deepEqual([error.status, error.said], [503, "The database is away."]);
  globalThis.fetch = ofType("application/octet-stream", "abc");
  assert.equal((await getBinary("/api/", "", { lastKnown: true })).byteLength, 3);
  // In binary form, the answer has no sentence of the portal.
  assert.match((await failure(() => getBinary("/api/"))).said, /database is busy or unavailable.*tries again/);
  await failure(() => postJson("/api/", {}));
});

test("other statuses without a sentence say what to do", async () => {
  assert.match(await sentence(401), /log in again/);
  assert.match(await sentence(403), /log in again/);
  assert.match(await sentence(404), /Reload the page/);
  assert.match(await sentence(413), /too large.*send less/);
  assert.match(await sentence(429, { headers: { "Retry-After": "20" } }), /try again in 20 s/);
  assert.match(await sentence(429), /try again in a minute/);
  assert.match(await sentence(500), /status 500.*Try again/);
  assert.match(await sentence(418), /status 418.*try again/);
});

test("a request without an answer says that there is no connection", async () => {
  globalThis.fetch = async () => {
    throw new TypeError("Failed to fetch");
  };
  for (const request of [() => getJson("/api/"), () => postJson("/api/", {}), () => getFragment("?fragment=1")]) {
    const error = await failure(request);
    assert.ok(error instanceof NoAnswer);
    assert.match(error.message, /no connection to the portal.*still here.*try again/);
  }
});

test("an answer that breaks off is like none", async () => {
  globalThis.fetch = async () => new Response('{"half', { headers: { "Content-Type": "application/json" } });
  assert.ok((await failure(() => getJson("/api/"))) instanceof NoAnswer);
});

test("a page that repeats its requests says so if the portal does not answer, else why it was refused", () => {
  const trying = "The portal does not answer; trying again.";
  for (const error of [new NoAnswer(), new HttpError(502), new HttpError(503)]) assert.equal(repeatedText(error), trying);
  assert.equal(repeatedText(new HttpError(503, "The database is busy.")), "The database is busy.");
  assert.match(repeatedText(new HttpError(404)), /Reload the page/);
});
