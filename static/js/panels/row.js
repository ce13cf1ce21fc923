// One row of a panel: an icon, a title, details, and a time.

import { element, icon } from "../shared/dom.js";
import { momentElement } from "../shared/moments.js";

/** Return a row; `extra` has its attributes. */
export function panelRow(picture, title, details, when, extra = {}) {
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
    timeElement(when),
  );
}

/** Return an element for a time: the clock time, with day and zone in its tooltip. */
export function timeElement(when) {
  if (!when) return null;
  return momentElement(when, { class: "entry-time" });
}
