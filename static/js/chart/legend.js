// The legend of a chart with several lines: an entry hides its line, and makes the others paler while one points at it.

import { element, icon } from "../shared/dom.js";
import { fill, gettext } from "../shared/i18n.js";

export class Legend {
  version = 0;
  root = element("div", { class: "chart-legend" });
  #hidden = new Set();
  #pointed = null;
  #onChange;

  /**
   * A line with `onRemove()` has a button that removes it. `lines` get `isHidden()` and `isFaint()`, unless the page decides on them: then entries are no buttons.
   * `swatchOf(line)` makes a picture of a line; `onChange()` requests a paint.
   */
  constructor(lines, swatchOf, onChange) {
    this.#onChange = onChange;
    this.root.hidden = lines.length < 2;
    const decides = lines.length > 1 && lines.every((line) => !line.isHidden);
    for (const line of lines) {
      const entry = this.#entry(line, swatchOf(line), decides);
      this.root.append(line.onRemove ? element("span", { class: "legend-added" }, entry, removeButton(line)) : entry);
    }
  }

  #entry(line, swatch, decides) {
    line.value = element("span", { class: "legend-value" });
    line.swatch = swatch.firstChild;
    const label = element("span", { text: line.label, title: line.label });
    if (!decides) return element("span", { class: "legend-line" }, swatch, label, line.value);
    line.isHidden = () => this.#hidden.has(line.name);
    line.isFaint = () => this.#pointed !== null && this.#pointed !== line.name;
    const title = fill(gettext("Show or hide {name}"), { name: line.label });
    const entry = element("button", { class: "legend-line", type: "button", "aria-pressed": "true", title }, swatch, label, line.value);
    entry.addEventListener("click", () => {
      if (!this.#hidden.delete(line.name)) this.#hidden.add(line.name);
      entry.setAttribute("aria-pressed", String(!line.isHidden()));
      this.#change(null);
    });
    for (const begin of ["pointerenter", "focus"])
      entry.addEventListener(begin, () => this.#change(line.isHidden() ? null : line.name));
    for (const end of ["pointerleave", "blur"]) entry.addEventListener(end, () => this.#change(null));
    return entry;
  }

  #change(pointed) {
    this.#pointed = pointed;
    this.version += 1;
    this.#onChange();
  }
}

function removeButton({ label, onRemove }) {
  const title = fill(gettext("Remove {name} from this chart"), { name: label });
  const button = element("button", { class: "legend-remove", type: "button", title, "aria-label": title }, icon("close"));
  button.addEventListener("click", onRemove);
  return button;
}
