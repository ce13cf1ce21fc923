// The search field for charts, with the number of matches, the error if there is one, and the hidden charts.

import { element, setText } from "../../shared/dom.js";
import { fill, gettext } from "../../shared/i18n.js";
import { shortcut } from "../../shared/shortcuts.js";
import { filterOf } from "./filter.js";

export class ChartFinder {
  filter = filterOf("");
  showsHidden = false;
  version = 0;
  #root = document.getElementById("chart-finder");
  #field = this.#root.querySelector("input");
  #count = this.#root.querySelector("[data-slot=hits]");
  #hidden = this.#root.querySelector("[data-slot=hidden]");
  #onChange;

  /** `onChange()` requests a new arrangement of the charts. */
  constructor(onChange) {
    this.#onChange = onChange;
    this.#field.addEventListener("input", () => this.#read());
    this.#field.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      if (this.#field.value) this.clear();
      else this.#field.blur();
    });
    this.#hidden.addEventListener("click", () => {
      this.showsHidden = !this.showsHidden;
      this.#touch();
    });
    shortcut("/", () => {
      this.#root.scrollIntoView({ block: "nearest" });
      this.#field.select();
      this.#field.focus();
    });
  }

  get text() {
    return this.#field.value.trim();
  }

  /** Search for `text` as if a person had typed it. */
  find(text) {
    this.#field.value = text;
    this.#read();
  }

  /** Show all charts again. */
  clear() {
    this.#field.value = "";
    this.#read();
    this.#field.focus();
  }

  /** Show how many of `total` charts match, and how many are hidden. */
  tell(found, total, hidden) {
    const { isOn, error } = this.filter;
    const hits = fill(gettext("{found} of {total} charts"), { found, total });
    setText(this.#count, error ? fill(gettext("Not a regular expression: {error}"), { error }) : isOn ? hits : "");
    this.#field.setAttribute("aria-invalid", String(Boolean(error)));
    this.#hidden.hidden = !hidden;
    this.#hidden.setAttribute("aria-pressed", String(this.showsHidden));
    setText(this.#hidden, fill(gettext("Hidden: {count}"), { count: hidden }));
  }

  /** Return the text that is shown if no chart matches. */
  emptyNote() {
    const clear = element("button", { class: "btn btn-sm", type: "button", text: gettext("Show all charts") });
    clear.addEventListener("click", () => this.clear());
    const text = gettext("Enter a part of a name, or a regular expression after re:, such as re:layer/1[0-9]/");
    return element(
      "div",
      { class: "card blank", "data-testid": "no-chart-found" },
      element("h2", { text: gettext("No chart has such a name") }),
      element("p", { text }),
      clear,
    );
  }

  #read() {
    this.filter = filterOf(this.#field.value);
    this.#touch();
  }

  #touch() {
    this.version += 1;
    this.#onChange();
  }
}
