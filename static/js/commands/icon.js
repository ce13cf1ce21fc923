// The icon of a command, as in the marks on the charts.

import { icon, svgElement } from "../shared/dom.js";
import { ICON_PATHS } from "./interventions.js";

/** Return the icon of a kind of command. */
export function commandIcon(kind) {
  if (!ICON_PATHS[kind]) return icon("send");
  const path = svgElement("path", { d: ICON_PATHS[kind] });
  return svgElement("svg", { class: "glyph", viewBox: "0 0 24 24", "aria-hidden": "true" }, path);
}
