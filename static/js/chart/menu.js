// The menu of a chart: its size, its own scale, its formats for saving, and buttons of the page.

import { copyText } from "../shared/clipboard.js";
import { element, icon } from "../shared/dom.js";
import { gettext } from "../shared/i18n.js";

/**
 * Return the menu as an element, filled when it is first opened. `chart`: {own, setOwn(own), resize(), savePng(),
 * saveSvg(), saveCsv(), values()}. `own` is {log, range}: the chart's own log axis, null if it follows the page, and
 * its own range of values [low, high], null if it follows the data. `buttons` come last.
 */
export function chartMenu(chart, buttons = []) {
  const label = gettext("More for this chart");
  const summary = element("summary", { class: "chart-button", "aria-label": label, title: label, "data-testid": "chart-menu" }, icon("more"));
  const root = element("details", { class: "menu chart-menu" }, summary);
  let panel = null;
  root.addEventListener("toggle", () => {
    if (!root.open) return;
    if (!panel) root.append((panel = panelOf(chart, root, buttons)));
    panel.show();
  });
  return root;
}

/** Return the content of the menu. Its `show()` updates it when the menu is opened. */
function panelOf(chart, root, buttons) {
  const log = element("input", { class: "form-check-input", type: "checkbox" });
  log.addEventListener("change", () => chart.setOwn({ ...chart.own, log: log.checked }));
  const range = rangeFields(chart);
  const values = element("output", { class: "chart-values", tabindex: "0", "aria-label": gettext("Newest value") });
  const doing = (picture, text, action) => {
    const button = element("button", { class: "menu-item", type: "button" }, icon(picture), text);
    button.addEventListener("click", () => {
      action();
      root.open = false;
      root.querySelector("summary").focus();
    });
    return button;
  };
  const copy = element("button", { class: "btn btn-sm", type: "button" }, icon("copy"), gettext("Copy value"));
  copy.addEventListener("click", () => copyText(values));
  const panel = element(
    "div",
    { class: "menu-panel" },
    doing("resize", gettext("Larger or smaller"), () => chart.resize()),
    doing("download", gettext("Save as PNG"), () => chart.savePng()),
    doing("download", gettext("Save as SVG"), () => chart.saveSvg()),
    doing("download", gettext("Save as CSV"), () => chart.saveCsv()),
    element("div", { class: "menu-row" }, values, copy),
    element("label", { class: "form-check menu-row" }, log, element("span", { class: "form-check-label", text: gettext("Log axis of this chart") })),
    range.root,
    ...buttons,
  );
  panel.show = () => {
    log.checked = chart.own.log ?? chart.followsLog();
    range.show();
    values.textContent = chart.values();
  };
  return panel;
}

/** Return {root, show()}: fields for the chart's own range of values, and a button that removes it. */
function rangeFields(chart) {
  const field = (label) =>
    element("input", { class: "form-control form-control-sm", type: "number", step: "any", "aria-label": label, placeholder: label });
  const low = field(gettext("lowest"));
  const high = field(gettext("highest"));
  const wrong = element("p", { class: "chart-note", role: "status", hidden: true, text: gettext("Give a lowest value below the highest.") });
  const automatic = element("button", { class: "btn btn-sm", type: "button", text: gettext("Automatic") });
  const read = () => {
    if (!low.value || !high.value) return;
    const range = [Number(low.value), Number(high.value)];
    wrong.hidden = range[0] < range[1];
    if (wrong.hidden) chart.setOwn({ ...chart.own, range });
  };
  const show = () => {
    [low.value, high.value] = chart.own.range?.map(String) ?? ["", ""];
    wrong.hidden = true;
  };
  low.addEventListener("change", read);
  high.addEventListener("change", read);
  automatic.addEventListener("click", () => {
    chart.setOwn({ ...chart.own, range: null });
    show();
  });
  const title = element("span", { class: "menu-label", text: gettext("Range of values") });
  return { root: element("div", { class: "menu-row" }, title, low, high, automatic, wrong), show };
}
