// The button + of a chart: a menu that adds other series of the run to the chart, with a search over their names.

import { element, icon, setHidden, setText } from "../../shared/dom.js";
import { fill, gettext } from "../../shared/i18n.js";
import { naturalOrder } from "../../shared/natural_order.js";
import { addedName } from "./epoch_lines.js";

// A run may have thousands of series.
const MOST_LISTED = 40;
const STEPS = { ArrowDown: 1, ArrowUp: -1 };

/**
 * Return the `names` whose text contains `text`, in any case: those that begin with it first, and those with the same
 * last part as `key` before all others, because people compare a loss with a loss.
 */
export function matching(names, text, key) {
  const wanted = text.trim().toLowerCase();
  const last = (name) => name.slice(name.lastIndexOf("/") + 1);
  const isAlike = (name) => last(name).endsWith(last(key));
  const rank = (name) => 2 * !addedName(name).toLowerCase().startsWith(wanted) + !isAlike(name);
  return names
    .filter((name) => name !== key && addedName(name).toLowerCase().includes(wanted))
    .sort((left, right) => rank(left) - rank(right) || naturalOrder(addedName(left), addedName(right)));
}

/**
 * Return {root, remove(name)} for the chart `key`. `names()` are the lines that can be drawn over steps; `onChange()`
 * makes the chart again, with the same `root`.
 */
export function addedSeries(key, preferences, names, onChange) {
  const title = gettext("Compare with another series");
  const summary = element("summary", { class: "chart-button", "aria-label": title, title, "data-testid": "add-series" }, icon("plus"));
  const root = element("details", { class: "menu chart-menu chart-add" }, summary);
  const set = (added) => {
    root.open = false;
    preferences.setAdded(key, added);
    onChange();
    // The chart is another one, to which the button has moved.
    summary.focus();
  };
  const remove = (name) => set(preferences.addedTo(key).filter((other) => other !== name));
  const toggle = (name) => (preferences.addedTo(key).includes(name) ? remove(name) : set([...preferences.addedTo(key), name]));
  let panel = null;
  root.addEventListener("toggle", () => {
    if (!root.open) return;
    if (!panel) root.append((panel = panelOf(key, preferences, names, { toggle, clear: () => set([]) })).root);
    panel.show();
  });
  return { root, remove };
}

function panelOf(key, preferences, names, { toggle, clear }) {
  const label = gettext("Add a series to this chart");
  const field = element("input", {
    class: "form-control form-control-sm", type: "search", autocomplete: "off", spellcheck: "false", "aria-label": label, placeholder: label,
  });
  const wrong = element("p", { class: "chart-note", role: "status", hidden: true });
  const list = element("div", { class: "chart-choices", role: "group", "aria-label": label });
  const more = element("p", { class: "menu-row text-secondary", hidden: true });
  const alone = element("button", { class: "menu-item", type: "button" }, icon("close"), gettext("Remove the added series"));
  alone.addEventListener("click", clear);
  const itemOf = (name) => {
    const isAdded = preferences.addedTo(key).includes(name);
    const item = element("button", { class: "menu-item", type: "button", "aria-pressed": String(isAdded), text: addedName(name) });
    item.addEventListener("click", () => toggle(name));
    return item;
  };
  const fillList = () => {
    const found = matching(names(), field.value, key);
    list.replaceChildren(...found.slice(0, MOST_LISTED).map(itemOf));
    setHidden(more, found.length <= MOST_LISTED);
    setText(more, fill(gettext("and {count} more: type a part of the name"), { count: found.length - MOST_LISTED }));
    setHidden(wrong, found.length > 0);
    setText(wrong, fill(gettext("The run has no other series {name}."), { name: field.value.trim() }));
  };
  field.addEventListener("input", fillList);
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    // Otherwise the button that gets the focus would be pressed too.
    event.preventDefault();
    list.firstElementChild?.click();
  });
  const root = element("div", { class: "menu-panel" }, element("div", { class: "menu-row" }, field, wrong), list, more, alone);
  root.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const stops = [field, ...list.children];
    stops[Math.max(0, Math.min(stops.length - 1, stops.indexOf(document.activeElement) + step))].focus();
  });
  const show = () => {
    field.value = "";
    fillList();
    setHidden(alone, !preferences.addedTo(key).length);
    field.focus();
  };
  return { root, show };
}
