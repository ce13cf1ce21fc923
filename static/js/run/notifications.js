// Notifications of the browser: of alerts that begin while the page is hidden, for who asked for them.

import { alertTexts } from "../shared/alert_texts.js";
import { toast } from "../shared/dom.js";
import { gettext } from "../shared/i18n.js";

const WANTED = "steersman-notify";

export class Notifications {
  #button;
  #told;
  #seen = null;

  constructor(button, run) {
    this.#button = button;
    this.#told = `steersman-notified-${run}`;
    if (!button || !("Notification" in globalThis)) return;
    button.hidden = false;
    button.addEventListener("click", () => this.#toggle());
    this.#show();
  }

  /** Check all alerts of the run, and notify of those that began since the last check. */
  look(alerts, runName) {
    const newest = alerts.reduce((most, { id }) => Math.max(most, id), 0);
    const seen = this.#seen;
    this.#seen = Math.max(seen ?? 0, newest);
    // What was there as the page was loaded is on the page.
    if (seen === null || newest <= seen || !document.hidden || !this.#isOn()) return;
    const told = Math.max(seen, Number(localStorage.getItem(this.#told)));
    // Other tabs of this run look here too; two that look at once are made one by the tag.
    localStorage.setItem(this.#told, String(newest));
    for (const alert of alerts.filter(({ id, state }) => id > told && state === "open")) {
      const { title, text } = alertTexts(alert);
      const shown = { body: [alert.series, text].filter(Boolean).join(" · "), tag: `${this.#told}-${alert.id}` };
      new Notification(`${title} – ${runName}`, shown);
    }
  }

  #isOn() {
    return globalThis.Notification?.permission === "granted" && localStorage.getItem(WANTED) === "on";
  }

  async #toggle() {
    const isOn = this.#isOn();
    if (!isOn && (await Notification.requestPermission()) !== "granted") {
      toast(gettext("The browser does not allow notifications from this site."), "warning", "notify");
    } else localStorage.setItem(WANTED, isOn ? "off" : "on");
    this.#show();
  }

  #show() {
    this.#button.setAttribute("aria-pressed", String(this.#isOn()));
  }
}
