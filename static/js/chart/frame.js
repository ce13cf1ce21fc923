// The elements around the curve of a chart: title, value, buttons, legend, notes.

import { element, icon, svgElement } from "../shared/dom.js";
import { gettext } from "../shared/i18n.js";
import { lineDash } from "../shared/palette.js";

/** Return the parts {root, place, reading, note, caption, full} around `legend`, an element. */
export function buildChart(title, lines, legend, buttons, menu) {
  const parts = {
    place: element("div", { class: "chart-place" }),
    reading: element("span", { class: "chart-reading" }),
    note: element("p", { class: "chart-note", hidden: true }),
    caption: element("figcaption", { class: "chart-caption", hidden: true }),
    full: button("full", gettext("Full screen")),
  };
  parts.full.dataset.full = "";
  const tools = element("span", { class: "chart-buttons" }, ...buttons, parts.full, menu);
  const head = element(
    "div",
    { class: "chart-head" },
    element("h3", { class: "chart-title", text: title, title }),
    parts.reading,
    tools,
  );
  parts.root = element(
    "figure",
    {
      class: "card chart-card",
      tabindex: "0",
      "aria-label": title,
      "data-testid": "chart",
      "data-series": lines.map((line) => line.name).join(" "),
      "data-points": "0",
    },
    head,
    legend,
    parts.place,
    parts.note,
    parts.caption,
  );
  return parts;
}

/** Return a short piece of the line with its dash, because colours alone do not distinguish all lines. */
export function swatchOf({ dash }) {
  const dashes = lineDash(dash).join(" ");
  const line = svgElement("line", { x1: 0, x2: 26, y1: 4, y2: 4, "stroke-width": 2, "stroke-dasharray": dashes });
  return svgElement("svg", { class: "legend-swatch", viewBox: "0 0 26 8", "aria-hidden": "true" }, line);
}

function button(picture, label) {
  return element("button", { class: "chart-button", type: "button", "aria-label": label, title: label }, icon(picture));
}
