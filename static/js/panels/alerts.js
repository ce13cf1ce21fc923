// Alerts of the run: a banner with the most severe open alert, and the list of all. People who may send commands can
// acknowledge and snooze an alert.

import { actionText, afterRollBackText, alertTexts } from "../shared/alert_texts.js";
import { element, icon, setText, toast } from "../shared/dom.js";
import { number } from "../shared/format.js";
import { postJson } from "../shared/http.js";
import { fill, gettext, stateText } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { inOrder, openAlerts } from "../state/alerts.js";
import { timeElement } from "./row.js";

export class Alerts {
  #state;
  #page;
  #banner = document.getElementById("alert-banner");
  #list = document.getElementById("alerts");
  #button = this.#banner.querySelector("button");
  #all = document.getElementById("acknowledge-all");
  #worst = null;
  #changed = changeDetector();

  constructor(state, page) {
    this.#state = state;
    this.#page = page;
    this.#button.addEventListener("click", () => this.#acknowledge(this.#worst, this.#button));
    this.#all.addEventListener("click", () => this.#acknowledgeAll());
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
    const row = this.#list.contains(focused) ? focused.closest("[data-alert]") : null;
    const wasSnooze = Boolean(focused?.closest(".alert-snooze"));
    this.#all.hidden = !may || openAlerts(this.#state.alerts).length < 2;
    this.#list.replaceChildren(...inOrder(this.#state.alerts).map((alert) => this.#row(alert, may)));
    if (!row) return;
    // The row was replaced: keep the focus on the same button, or on the list if the button is gone.
    const fresh = this.#list.querySelector(`[data-alert="${row.dataset.alert}"]`);
    (fresh?.querySelector(wasSnooze ? "summary" : ".alert-buttons > button") ?? fresh?.querySelector("summary") ?? this.#list).focus();
  }

  #row(alert, may) {
    const buttons = [];
    if (may && alert.state === "open") {
      const button = element("button", {
        class: "btn btn-sm",
        type: "button",
        "aria-label": fill(gettext("Acknowledge: {alert}"), { alert: sentenceOf(alert) }),
        text: gettext("Acknowledge"),
      });
      button.addEventListener("click", () => this.#acknowledge(alert, button));
      buttons.push(button);
    }
    // Alerts from the training's own code have no rule.
    if (may && alert.state !== "cleared" && alert.detector !== "code") buttons.push(this.#snooze(alert));
    return alertRow(alert, buttons);
  }

  #snooze(alert) {
    const choices = [
      [gettext("1 hour"), 1],
      [gettext("8 hours"), 8],
      [gettext("until it is cleared"), null],
    ];
    const label = fill(gettext("Snooze: {alert}"), { alert: sentenceOf(alert) });
    const menu = element("details", { class: "alert-snooze" }, element("summary", { class: "btn btn-sm", "aria-label": label, text: gettext("Snooze") }));
    const list = element("div", { class: "alert-snooze-list", role: "group", "aria-label": label });
    for (const [text, hours] of choices) {
      const button = element("button", { class: "btn btn-sm", type: "button", text });
      button.addEventListener("click", async () => {
        if (!(await this.#ask(alert, "snooze", { hours }, button))) return;
        menu.open = false;
        menu.querySelector("summary").focus();
        toast(fill(gettext("Snoozed: {alert}"), { alert: sentenceOf(alert) }));
      });
      list.append(button);
    }
    menu.append(list);
    return menu;
  }

  /** Send it to the portal; the page changes when the event arrives. */
  #acknowledge(alert, button) {
    return this.#ask(alert, "acknowledge", {}, button);
  }

  /** Acknowledge the alerts that are open now, one after the other; later ones have not been seen yet. */
  async #acknowledgeAll() {
    for (const alert of openAlerts(this.#state.alerts)) {
      if (!(await this.#acknowledge(alert, this.#all))) return;
    }
    this.#list.focus();
  }

  /** Return whether the portal accepted the request. */
  async #ask(alert, what, body, button) {
    if (button.ariaDisabled === "true") return false;
    // A disabled button would lose the focus.
    button.ariaDisabled = "true";
    try {
      const { alerts, login } = this.#page.addresses;
      await postJson(`${alerts}${alert.id}/${what}/`, body, login);
      return true;
    } catch (error) {
      toast(error.message, "danger");
      return false;
    } finally {
      button.ariaDisabled = null;
    }
  }

  #paintBanner(open) {
    const [worst, ...others] = open;
    this.#worst = worst;
    this.#banner.dataset.severity = worst.severity;
    setText(this.#banner.querySelector("[data-slot=severity]"), `${stateText(worst.severity)}:`);
    // The line may be too short for it.
    this.#banner.title = sentenceOf(worst);
    setText(this.#banner.querySelector("[data-slot=text]"), sentenceOf(worst));
    const more = others.length ? fill(gettext("and {count} more"), { count: others.length }) : "";
    setText(this.#banner.querySelector("[data-slot=more]"), more);
  }
}

function alertRow(alert, buttons) {
  const value = alert.value === null && !alert.nonfinite ? "" : number(alert.value, alert.nonfinite);
  const details = [
    alertTexts(alert).text,
    value && fill(gettext("value {value}"), { value }),
    alert.usual && fill(gettext("usual {usual}"), { usual: alert.usual }),
    alert.late ? gettext("The point arrived late.") : "",
    alert.cleared_step === null ? "" : fill(gettext("cleared at step {x}"), { x: alert.cleared_step }),
    alert.by && fill(gettext("acknowledged by {name}"), { name: alert.by }),
  ];
  return element(
    "div",
    { class: "entry alert-entry", "data-testid": "alert-row", "data-alert": alert.id, "data-state": alert.state, "data-severity": alert.severity },
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
      actionLine(alert),
      afterRollBackText(alert)
        ? element("div", { class: "entry-detail", "data-testid": "after-roll-back", text: afterRollBackText(alert) })
        : null,
    ),
    buttons.length ? element("div", { class: "alert-buttons" }, ...buttons) : null,
    timeElement(alert.began_at),
  );
}

/** Return what the alert's rule did, with a link to the command in the command log. */
function actionLine(alert) {
  const text = actionText(alert);
  if (!text) return null;
  const line = element("div", { class: "entry-detail", "data-testid": "alert-action", "data-state": alert.action_state });
  if (alert.command_id) line.append(element("a", { href: `#command-${alert.command_id}`, text }));
  else line.append(text);
  return line;
}

/** Return a sentence with the fault, its series and its first step. */
function sentenceOf(alert) {
  const where = alert.step === null ? "" : fill(gettext("step {x}"), { x: alert.step });
  return [alertTexts(alert).title, alert.series, where].filter(Boolean).join(" · ");
}
