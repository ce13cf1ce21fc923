// The icon of the tab: the state of the run and its progress, and critical alerts.

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

test("each state has a shape of its own, whatever its colour", () => {
  const link = fakeLink();
  const show = tabIcon(link);
  const shapes = ["queued", "running", "paused", "finished", "stopped", "failed", "lost"].map((state) => {
    show([], { state });
    assert.match(link.href, /^data:image\/svg\+xml,/);
    return decodeURIComponent(link.href).replace(/#[0-9a-f]{6}/g, "");
  });
  assert.equal(new Set(shapes).size, shapes.length);
  show([], { state: "created" });
  assert.equal(link.href, "usual.svg");
  show([{ severity: "critical", state: "open" }], { state: "running" });
  assert.equal(link.href, "alert.svg");
});

test("the ring of a running run changes only with a part that can be seen", () => {
  const link = fakeLink();
  const show = tabIcon(link);
  const run = (step) => ({ state: "running", step, total_steps: 100_000 });
  for (let step = 0; step <= 100_000; step += 100) show([], run(step));
  assert.equal(link.changes, 25);
  const full = link.href;
  show([], { state: "paused", step: 50_000, total_steps: 100_000 });
  const paused = link.href;
  show([], { state: "paused", step: 60_000, total_steps: 100_000 });
  assert.equal(link.href, paused);
  assert.notEqual(paused, full);
});

test("a page without such a link is left alone", () => tabIcon(null)([{ severity: "critical", state: "open" }]));
