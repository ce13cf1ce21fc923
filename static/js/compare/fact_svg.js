// The parts of the charts of parameters and metrics: lines, labels and headings.

import { svgElement } from "../shared/dom.js";
import { palette } from "../shared/palette.js";

// In pixels.
export const HEIGHT = 340;
const LONGEST_TEXT = 16;
// The width of a letter in the font below, in pixels, rounded up.
const LETTER_WIDTH = 6.5;

export function short(text, most = LONGEST_TEXT) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

export function line(x1, y1, x2, y2) {
  return svgElement("line", { x1, y1, x2, y2, stroke: palette.grid, "stroke-width": 1 });
}

export function label(x, y, text, anchor, full = "") {
  const font = { "text-anchor": anchor, fill: palette.axis, "font-size": 11 };
  // Readable on top of lines.
  const halo = { stroke: palette.surface, "stroke-width": 3, "paint-order": "stroke" };
  const node = svgElement("text", { x, y, ...font, ...halo });
  node.append(text);
  if (full && full !== text) node.append(titled(full));
  return node;
}

/** Return the name of an axis at `x`, shortened to fit into a chart of `width`. */
export function heading(x, y, text, room, width) {
  const most = Math.max(3, Math.floor(Math.min(room, width / 2) / LETTER_WIDTH));
  const name = short(text, most);
  const half = (name.length * LETTER_WIDTH) / 2;
  const anchor = x < half ? "start" : x + half > width ? "end" : "middle";
  return label(anchor === "end" ? width - 4 : anchor === "start" ? 4 : x, y, name, anchor, text);
}

export function titled(text) {
  const title = svgElement("title", {});
  title.append(text);
  return title;
}
