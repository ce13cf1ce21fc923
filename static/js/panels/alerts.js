// Alerts of the run: a banner while some last, the most severe first, and the list of all.

import { alertTexts } from "../shared/alert_texts.js";
import { element, icon, setText } from "../shared/dom.js";
import { number } from "../shared/format.js";
import { fill, gettext, stateText } from "../shared/i18n.js";
import { changeDetector } from "../shared/painter.js";
import { lastingAlerts } from "../state/alerts.js";
import { timeElement } from "./row.js";

export class Alerts {
  #state;
  #banner = document.getElementById("alert-banner");
  #list = document.getElementById("alerts");
  #changed = changeDetector();

  constructor(state) {
    this.#state = state;
  }

  paint() {
    if (!this.#changed(this.#state.versions.alerts)) return;
    const lasting = lastingAlerts(this.#state.alerts);
    this.#banner.hidden = !lasting.length;
    if (lasting.length) this.#paintBanner(lasting);
    if (this.#state.alerts.length) this.#list.replaceChildren(...this.#state.alerts.map(alertRow));
  }

  #paintBanner(lasting) {
    const [worst, ...others] = lasting;
    this.#banner.dataset.severity = worst.severity;
    setText(this.#banner.querySelector("[data-slot=severity]"), `${stateText(worst.severity)}:`);
    setText(this.#banner.querySelector("[data-slot=text]"), sentenceOf(worst));
    const more = others.length ? fill(gettext("and {count} more"), { count: others.length }) : "";
    setText(this.#banner.querySelector("[data-slot=more]"), more);
  }
}

function alertRow(alert) {
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
    { class: "entry", "data-testid": "alert-row", "data-state": alert.state, "data-severity": alert.severity },
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
    timeElement(alert.began_at),
  );
}

/** What is wrong, of which series, since which step. */
function sentenceOf(alert) {
  const where = alert.step === null ? "" : fill(gettext("step {x}"), { x: alert.step });
  return [alertTexts(alert).title, alert.series, where].filter(Boolean).join(" · ");
}
