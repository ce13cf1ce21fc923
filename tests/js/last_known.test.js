// A page that was repeated during an outage loads again when the portal answers, unless somebody enters something.

import assert from "node:assert/strict";
import { mock, test } from "node:test";

let pages = 0;

/** Return a page; `after(seconds)` lets time pass and returns how often it was loaded again. */
function opened({ status = 200, dialogs = [], fields = [] } = {}) {
  const page = { status, dialogs, fields, active: null, reloads: 0 };
  Object.assign(globalThis, {
    window: { location: { href: "/", reload: () => (page.reloads += 1) } },
    document: {
      querySelector: () => page.dialogs[0] ?? null,
      querySelectorAll: () => page.fields,
      get activeElement() {
        return page.active;
      },
    },
    fetch: async () => {
      if (!page.status) throw new TypeError("Failed to fetch");
      return new Response(null, { status: page.status });
    },
  });
  mock.timers.enable({ apis: ["setTimeout"] });
  // Its top level waits, so the import is never awaited.
  import(`../../static/js/pages/last_known.js?${(pages += 1)}`);
  page.after = async (seconds) => {
    for (let second = 0; second < seconds; second += 1) {
      for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      mock.timers.tick(1000);
    }
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    return page.reloads;
  };
  return page;
}

test.afterEach(() => mock.timers.reset());

function field(value, more = {}) {
  return { value, defaultValue: "", form: { method: "post" }, closest: () => null, ...more };
}

for (const status of [0, 502, 503, 504])
  test(`it does not load again after ${status || "no answer"}, but after the next answer`, async () => {
    const page = opened({ status });
    assert.equal(await page.after(20), 0);
    page.status = 200;
    assert.equal(await page.after(4), 1);
  });

for (const status of [401, 403, 404, 500])
  test(`it loads again to show ${status}`, async () => assert.equal(await opened({ status }).after(4), 1));

test("it waits while a dialog is open", async () => {
  const page = opened({ dialogs: [{}] });
  assert.equal(await page.after(20), 0);
  page.dialogs = [];
  assert.equal(await page.after(4), 1);
});

test("it waits while a form has an entry, and while another field with a text has the focus", async () => {
  const page = opened({ fields: [field("digits")] });
  assert.equal(await page.after(20), 0);
  page.fields = [field("0.1", { form: null })];
  page.active = page.fields[0];
  assert.equal(await page.after(20), 0);
  page.active = null;
  assert.equal(await page.after(4), 1);
});

test("it does not wait for a search, an unchanged field or a closed dialog", async () => {
  const fields = [field("loss", { form: { method: "get" } }), field(""), field("name", { closest: () => ({}) })];
  assert.equal(await opened({ fields }).after(4), 1);
});
