// One line of a panel: a picture, a title, what there is to say, and when.

import { element, icon } from "./dom.js";
import { clock } from "./format.js";

/** Return an entry; `extra` are attributes of it. */
export function entry(picture, title, details, when, extra = {}) {
  return element(
    "div",
    { class: "entry", ...extra },
    element("span", { class: "entry-icon" }, icon(picture)),
    element(
      "div",
      { class: "entry-text" },
      element("div", { class: "entry-title", text: title }),
      ...details.filter(Boolean).map((text) => element("div", { class: "entry-detail", text })),
    ),
    element("time", { class: "entry-time", datetime: when || null, text: when ? clock(when) : "" }),
  );
}
