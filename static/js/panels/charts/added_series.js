// The part of a chart's menu that adds other series of the run to the chart.

import { element } from "../../shared/dom.js";
import { fill, gettext } from "../../shared/i18n.js";

// One list for the fields of all charts, filled when one of them gets the focus.
const LIST = element("datalist", { id: "series-names" });

/** Return {root, show()} for the chart `key`. `names()` are the series that can be drawn over steps. */
export function addedSeries(key, preferences, names, onChange) {
  const label = gettext("Add a series to this chart");
  const field = element("input", { class: "form-control form-control-sm", list: LIST.id, "aria-label": label, placeholder: gettext("name of a series") });
  const wrong = element("p", { class: "chart-note", role: "status", hidden: true });
  const alone = element("button", { class: "btn btn-sm", type: "button", text: gettext("Remove the added series") });
  const set = (added) => {
    preferences.setAdded(key, added);
    onChange();
  };
  field.addEventListener("focus", () => {
    if (!LIST.isConnected) document.body.append(LIST);
    LIST.replaceChildren(...names().filter((name) => name !== key).map((name) => element("option", { value: name })));
  });
  field.addEventListener("change", () => {
    const name = field.value.trim();
    const isKnown = names().includes(name) && name !== key;
    wrong.hidden = isKnown || !name;
    wrong.textContent = fill(gettext("The run has no other series {name}."), { name });
    if (!isKnown) return;
    field.value = "";
    set([...preferences.addedTo(key), name]);
  });
  alone.addEventListener("click", () => set([]));
  const root = element("div", { class: "menu-row" }, element("span", { class: "menu-label", text: label }), field, alone, wrong);
  const show = () => {
    alone.hidden = !preferences.addedTo(key).length;
  };
  show();
  return { root, show };
}
