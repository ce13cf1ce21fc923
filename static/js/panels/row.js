// One row of a panel: a picture, a title, what there is to say, and when.

import { element, icon } from "../shared/dom.js";
import { clock, moment } from "../shared/format.js";

/** Return a row; `extra` are attributes of it. */
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

/** Return a time as an element: the clock, and the day and zone in its tooltip. */
export function timeElement(when) {
  if (!when) return null;
  return element("time", { class: "entry-time", datetime: when, title: moment(when), text: clock(when) });
}
