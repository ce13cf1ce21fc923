// Alerts of the run: a banner while some are open, the most severe first, and the list of all. Who may command says
// with a button that they have seen one.

import { alertTexts } from "../shared/alert_texts.js";
import { element, icon, setText, toast } from "../shared/dom.js";
import { number } from "../shared/format.js";
import { postJson } from "../shared/http.js";
import { fill, gettext, stateText } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { openAlerts } from "../state/alerts.js";
import { timeElement } from "./row.js";

export class Alerts {
  #state;
  #page;
  #banner = document.getElementById("alert-banner");
  #list = document.getElementById("alerts");
  #button = this.#banner.querySelector("button");
  #worst = null;
  #changed = changeDetector();

  constructor(state, page) {
    this.#state = state;
    this.#page = page;
    this.#button.addEventListener("click", () => this.#acknowledge(this.#worst, this.#button));
  }

  paint() {
    const may = Boolean(this.#page.addresses.alerts && this.#state.viewer?.may.length);
    if (!this.#changed(this.#state.versions.alerts, may)) return;
    const open = openAlerts(this.#state.alerts);
    const hadFocus = document.activeElement === this.#button;
    this.#banner.hidden = !open.length;
    this.#button.hidden = !may;
    if (open.length) this.#paintBanner(open);
    else if (hadFocus) this.#list.focus();
    if (this.#state.alerts.length) this.#paintList(may);
  }

  #paintList(may) {
    const focused = document.activeElement;
    const held = this.#list.contains(focused) ? focused.closest("[data-alert]")?.dataset.alert : undefined;
    this.#list.replaceChildren(...this.#state.alerts.map((alert) => this.#row(alert, may)));
    // The row is a new one: a keyboard stays where it was, or in the list where the button has gone.
    if (held !== undefined) (this.#list.querySelector(`[data-alert="${held}"] button`) ?? this.#list).focus();
  }

  #row(alert, may) {
    if (!may || alert.state !== "open") return alertRow(alert);
    const button = element("button", {
      class: "btn btn-sm",
      type: "button",
      "aria-label": fill(gettext("Acknowledge: {alert}"), { alert: sentenceOf(alert) }),
      text: gettext("Acknowledge"),
    });
    button.addEventListener("click", () => this.#acknowledge(alert, button));
    return alertRow(alert, button);
  }

  /** Tell the portal; the event that follows paints it. */
  async #acknowledge(alert, button) {
    if (button.ariaDisabled === "true") return;
    // A button that is disabled would lose the focus.
    button.ariaDisabled = "true";
    try {
      const { alerts, login } = this.#page.addresses;
      await postJson(`${alerts}${alert.id}/acknowledge/`, {}, login);
    } catch (error) {
      toast(error.message, "danger");
    } finally {
      button.ariaDisabled = null;
    }
  }

  #paintBanner(open) {
    const [worst, ...others] = open;
    this.#worst = worst;
    this.#banner.dataset.severity = worst.severity;
    setText(this.#banner.querySelector("[data-slot=severity]"), `${stateText(worst.severity)}:`);
    setText(this.#banner.querySelector("[data-slot=text]"), sentenceOf(worst));
    const more = others.length ? fill(gettext("and {count} more"), { count: others.length }) : "";
    setText(this.#banner.querySelector("[data-slot=more]"), more);
  }
}

function alertRow(alert, button = null) {
  const value = alert.value === null && !alert.nonfinite ? "" : number(alert.value, alert.nonfinite);
  const details = [
    alertTexts(alert).text,
    value && fill(gettext("value {value}"), { value }),
    alert.usual && fill(gettext("usual {usual}"), { usual: alert.usual }),
    alert.late ? gettext("The point came late.") : "",
    alert.cleared_step === null ? "" : fill(gettext("cleared at step {x}"), { x: alert.cleared_step }),
    alert.by && fill(gettext("acknowledged by {name}"), { name: alert.by }),
  ];
  return element(
    "div",
    { class: "entry", "data-testid": "alert-row", "data-alert": alert.id, "data-state": alert.state, "data-severity": alert.severity },
    element("span", { class: "entry-icon" }, icon(alert.state === "cleared" ? "activity" : "alert")),
    element(
      "div",
      { class: "entry-text" },
      element(
        "div",
        { class: "entry-title" },
        element("span", { text: sentenceOf(alert) }),
        element("span", { class: "chip", text: stateText(alert.severity) }),
        element("span", { class: "chip", text: stateText(alert.state) }),
      ),
      ...details.filter(Boolean).map((text) => element("div", { class: "entry-detail", text })),
    ),
    button,
    timeElement(alert.began_at),
  );
}

/** What is wrong, of which series, since which step. */
function sentenceOf(alert) {
  const where = alert.step === null ? "" : fill(gettext("step {x}"), { x: alert.step });
  return [alertTexts(alert).title, alert.series, where].filter(Boolean).join(" · ");
}
