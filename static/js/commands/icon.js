// The picture of a command, as in the marks on the charts.

import { icon } from "../shared/dom.js";
import { GLYPHS } from "./interventions.js";

const SVG = "http://www.w3.org/2000/svg";

/** Return the picture of a kind of command as an element. */
export function glyph(kind) {
  if (!GLYPHS[kind]) return icon("send");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "glyph");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", GLYPHS[kind]);
  svg.append(path);
  return svg;
}
