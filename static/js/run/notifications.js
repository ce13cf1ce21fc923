// Browser notifications about alerts that begin while the page is hidden, for people who switched them on.

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

  /** Check all alerts of the run, and notify about those that began since the last check. */
  look(alerts, runName) {
    const newest = alerts.reduce((most, { id }) => Math.max(most, id), 0);
    const seen = this.#seen;
    this.#seen = Math.max(seen ?? 0, newest);
    // Alerts that existed when the page was loaded are on the page.
    if (seen === null || newest <= seen || !document.hidden || !this.#isOn()) return;
    const told = Math.max(seen, Number(localStorage.getItem(this.#told)));
    // Other tabs of this run check here too; the tag merges notifications of two that check at the same time.
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
