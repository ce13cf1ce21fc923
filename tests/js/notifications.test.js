// Browser notifications: one for each new condition, while the page is hidden, for users who asked for them.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Notifications } from "../../static/js/run/notifications.js";

let shown, stored;

beforeEach(() => {
  shown = [];
  stored = new Map();
  globalThis.localStorage = { getItem: (key) => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
  globalThis.document = { hidden: true };
  globalThis.Notification = class {
    static permission = "default";
    static async requestPermission() {
      return (Notification.permission = "granted");
    }
    constructor(title, { tag }) {
      shown.push([title, tag]);
    }
  };
});

const alert = (id, state = "open") => ({ id, state, detector: "crash", title: "Crashed", text: "no luck", series: "" });

function page() {
  const button = { attributes: {}, addEventListener: (_, press) => (button.press = press) };
  button.setAttribute = (name, value) => (button.attributes[name] = value);
  return { button, notifications: new Notifications(button, 7) };
}

test("nothing is told before somebody asks, and then what begins while the page is hidden", async () => {
  const { button, notifications } = page();
  notifications.look([alert(1)], "one");
  notifications.look([alert(2), alert(1)], "one");
  assert.deepEqual([shown, button.attributes["aria-pressed"]], [[], "false"]);
  await button.press();
  await Promise.resolve();
  assert.equal(button.attributes["aria-pressed"], "true");
  notifications.look([alert(3), alert(2), alert(1)], "one");
  notifications.look([alert(3), alert(2), alert(1)], "one");
  assert.deepEqual(shown, [["Crashed – one", "steersman-notified-7-3"]]);
  document.hidden = false;
  notifications.look([alert(4)], "one");
  document.hidden = true;
  notifications.look([alert(5, "cleared"), alert(4)], "one");
  assert.equal(shown.length, 1);
});

test("two tabs tell of an alert once", async () => {
  const tabs = [page(), page()];
  await tabs[0].button.press();
  for (const { notifications } of tabs) notifications.look([], "one");
  for (const { notifications } of tabs) notifications.look([alert(9)], "one");
  assert.equal(shown.length, 1);
});
