// The menu of the axes of the parallel coordinates: which parameters and metrics they show, and in which order.

import { closesByItself, element, icon, setHidden } from "../shared/dom.js";
import { fill, gettext } from "../shared/i18n.js";

const MOST_AXES = 12;
// With fewer, all of them are seen without a search.
const SEARCHED_FROM = 10;

export class AxisMenu {
  #menu;
  #place;
  #onChange;
  #facts = [];
  #shown = [];
  #keys = "";
  #list = element("ol", { class: "axis-order" });
  #boxes = [];
  #full = element("p", { class: "run-sub", text: fill(gettext("These are {most} axes, the maximum."), { most: MOST_AXES }) });

  /** `menu` is the details element; `onChange(keys)` is called with the chosen axes in their order, null for the default. */
  constructor(menu, onChange) {
    this.#menu = menu;
    this.#place = menu.querySelector(".column-menu");
    this.#onChange = onChange;
    closesByItself(menu);
    // The section around it follows what is entered in the scatter chart's fields.
    menu.addEventListener("input", (event) => event.stopPropagation());
    this.#list.addEventListener("click", (event) => this.#move(event.target.closest("button")));
  }

  /** Offer `facts`, of which those with the keys `shown` are axes now. */
  show(facts, shown) {
    this.#facts = facts;
    this.#shown = shown;
    const keys = facts.map(({ key }) => key).join("\n");
    // The boxes of an open menu stay while the values of live runs change.
    if (keys !== this.#keys) this.#fill();
    this.#keys = keys;
    this.#showChosen();
  }

  #fill() {
    const search = element("input", { class: "form-control", type: "search", autocomplete: "off", placeholder: gettext("Find an axis"), "aria-label": gettext("Find an axis") });
    search.hidden = this.#facts.length < SEARCHED_FROM;
    this.#boxes = this.#facts.map((fact) => this.#box(fact));
    const group = (title, isMetric) => {
      const own = this.#boxes.filter((_, index) => this.#facts[index].is_metric === isMetric);
      const set = element("fieldset", {}, element("legend", { text: title }), ...own.map(({ root }) => root));
      set.hidden = !own.length;
      return set;
    };
    const groups = [group(gettext("Parameters"), false), group(gettext("Metrics"), true)];
    search.addEventListener("input", () => {
      const wanted = search.value.trim().toLocaleLowerCase();
      for (const { root, title } of this.#boxes) root.hidden = !title.toLocaleLowerCase().includes(wanted);
      for (const set of groups) set.hidden = [...set.querySelectorAll("label")].every((root) => root.hidden);
    });
    const usual = element("button", { class: "btn btn-sm", type: "button", text: gettext("Default axes") });
    usual.addEventListener("click", () => this.#onChange(null));
    const order = element("fieldset", {}, element("legend", { text: gettext("Order of the axes") }), this.#list);
    this.#place.replaceChildren(search, order, this.#full, ...groups, usual);
  }

  #box({ key, title }) {
    const box = element("input", { class: "form-check-input", type: "checkbox", value: key });
    box.addEventListener("change", () => {
      const others = this.#shown.filter((other) => other !== key);
      this.#onChange(box.checked ? [...others, key] : others);
    });
    const text = element("span", { class: "form-check-label", text: title });
    return { root: element("label", { class: "form-check" }, box, " ", text), box, key, title };
  }

  #showChosen() {
    const isFull = this.#shown.length >= MOST_AXES;
    for (const { box, key } of this.#boxes) {
      box.checked = this.#shown.includes(key);
      box.disabled = isFull && !box.checked;
    }
    setHidden(this.#full, !isFull);
    const rows = [...this.#list.children];
    if (rows.map((row) => row.dataset.key).join("\n") === this.#shown.join("\n")) return;
    const there = new Map(rows.map((row) => [row.dataset.key, row]));
    this.#list.replaceChildren(...this.#shown.map((key) => there.get(key) ?? this.#row(key)));
    this.#shown.forEach((key, index) => {
      const [up, down] = this.#list.children[index].querySelectorAll("button");
      up.disabled = index === 0;
      down.disabled = index === this.#shown.length - 1;
    });
  }

  #row(key) {
    const { title } = this.#facts.find((fact) => fact.key === key);
    const button = (step, text) => {
      const name = fill(text, { name: title });
      return element("button", { class: "tool", type: "button", "data-step": step, "aria-label": name, title: name }, icon("down"));
    };
    const buttons = [button(-1, gettext("Move {name} to the left")), button(1, gettext("Move {name} to the right"))];
    return element("li", { "data-key": key }, element("span", { text: title }), ...buttons);
  }

  #move(button) {
    if (!button) return;
    const { key } = button.closest("li").dataset;
    const from = this.#shown.indexOf(key);
    const keys = this.#shown.filter((other) => other !== key);
    keys.splice(from + Number(button.dataset.step), 0, key);
    this.#onChange(keys);
    // The row was moved, which takes the focus; the button of the last place is disabled.
    const own = button.disabled ? button.parentElement.querySelector("button:enabled") : button;
    own?.focus();
  }
}
