// The icon of the tab while a critical alert lasts.

import assert from "node:assert/strict";
import test from "node:test";

import { tabIcon } from "../../static/js/run/tab_icon.js";

function fakeLink() {
  const link = { href: "usual.svg", changes: 0, dataset: { alert: "alert.svg" } };
  link.getAttribute = () => link.href;
  link.setAttribute = (_, value) => {
    link.href = value;
    link.changes += 1;
  };
  return link;
}

test("the icon is another one while a critical alert lasts, acknowledged or not", () => {
  const link = fakeLink();
  const show = tabIcon(link);
  const shown = (severity, state) => {
    show([{ severity, state }]);
    return link.href;
  };
  assert.equal(shown("warning", "open"), "usual.svg");
  assert.equal(shown("critical", "open"), "alert.svg");
  assert.equal(shown("critical", "acknowledged"), "alert.svg");
  assert.equal(link.changes, 1);
  assert.equal(shown("critical", "cleared"), "usual.svg");
});

test("a page without such a link is left alone", () => tabIcon(null)([{ severity: "critical", state: "open" }]));
