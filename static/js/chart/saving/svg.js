// A drawn chart as an SVG picture: title, legend, axes, curves and marks on the theme's background colour.

import { svgElement } from "../../shared/dom.js";
import { lineColour, lineDash, palette } from "../../shared/palette.js";

const FONT = "system-ui, sans-serif";
const HEAD = 34;
const FOOT = 24;
const LEGEND = 20;
const PLACES = 2;
// Many drawing programs accept the opacity of a colour only as a separate attribute.
const WITH_OPACITY = /^(#[0-9a-f]{6})([0-9a-f]{2})$/i;

/**
 * Return {svg, width, height}: the text of a picture, and its size in pixels. `lines`: [{label, colour, dash}];
 * `marks`: [{x, text, colour}] are drawn as vertical lines; `below` names the run, `axis` the unit of x.
 */
export function svgOf({ title, below, axis, lines, plot, marks }) {
  const rows = lines.length > 1 ? legendRows(lines, plot.width) : [];
  const top = HEAD + rows.length * LEGEND;
  const [width, height] = [plot.width, top + plot.height + FOOT];
  const root = svgElement("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` });
  const clip = svgElement("clipPath", { id: "plot" }, svgElement("rect", boxOf(plot)));
  const curves = svgElement("g", { "clip-path": "url(#plot)" }, ...bandsOf(plot), ...curvesOf(plot));
  const drawn = svgElement("g", { transform: `translate(0 ${top})` }, ...axesOf(plot), curves, ...marksOf(plot, marks));
  root.append(
    svgElement("rect", { width, height, fill: palette.surface }),
    text(title, { x: 12, y: HEAD / 2 + 7, "font-size": 14, "font-weight": 600, fill: palette.text }),
    text(below, { x: width - 12, y: HEAD / 2 + 7, "font-size": 12, "text-anchor": "end", fill: palette.axis }),
    ...rows.flatMap((row, place) => row.flatMap((entry) => legendEntry(entry, HEAD + (place + 0.5) * LEGEND))),
    svgElement("defs", {}, clip),
    drawn,
    text(axis, { x: width / 2, y: height - 8, "font-size": 12, "text-anchor": "middle", fill: palette.axis }),
  );
  return { svg: new XMLSerializer().serializeToString(root), width, height };
}

/** Return a text element in the font of the picture. */
function text(content, attributes) {
  return svgElement("text", { "font-family": FONT, ...attributes }, content);
}

/** Return the plot area without axes, in CSS pixels. */
function boxOf(plot) {
  const { left, top, width, height } = plot.over.getBoundingClientRect();
  const outside = plot.root.querySelector(".u-wrap").getBoundingClientRect();
  return { x: round(left - outside.left), y: round(top - outside.top), width: round(width), height: round(height) };
}

/** Round coordinates, to keep the file small. */
function round(value) {
  return Number(value.toFixed(PLACES));
}

/** Yield the grid lines and labels of both axes. */
function* axesOf(plot) {
  const box = boxOf(plot);
  const [across, up] = plot.axes;
  // uPlot stores the positions and texts of its last drawing there.
  for (const [place, label] of labelsOf(across)) {
    const x = box.x + plot.valToPos(place, "x");
    yield gridLine({ x1: x, x2: x, y1: box.y, y2: box.y + box.height });
    yield text(label, { x: round(x), y: box.y + box.height + 18, "font-size": 11, "text-anchor": "middle", fill: palette.axis });
  }
  for (const [place, label] of labelsOf(up)) {
    const y = box.y + plot.valToPos(place, "y");
    yield gridLine({ x1: box.x, x2: box.x + box.width, y1: y, y2: y });
    yield text(label, { x: box.x - 6, y: round(y + 4), "font-size": 11, "text-anchor": "end", fill: palette.axis });
  }
}

/** Return the labels of an axis as [[value, text], …]. */
function labelsOf({ _splits: places, _values: labels }) {
  return (places ?? []).map((place, index) => [place, labels?.[index] ?? ""]).filter(([place]) => place !== null);
}

/** Return a grid line with these ends. */
function gridLine(ends) {
  const rounded = Object.entries(ends).map(([name, value]) => [name, round(value)]);
  return svgElement("line", { ...Object.fromEntries(rounded), ...inked("stroke", palette.grid), "stroke-width": 1 });
}

/** Return the pieces of a plot's column as [[x, y], …] in pixels: a gap ends a piece, an undefined value does not. */
function piecesOf(plot, column) {
  const box = boxOf(plot);
  const pieces = [[]];
  plot.data[column].forEach((value, index) => {
    if (value === undefined) return;
    if (value === null) pieces.push([]);
    else pieces.at(-1).push([round(box.x + plot.valToPos(plot.data[0][index], "x")), round(box.y + plot.valToPos(value, "y"))]);
  });
  return pieces.filter((piece) => piece.length);
}

/** Return the attributes of a colour, for "fill" or "stroke". */
function inked(kind, given, plot, place) {
  const colour = typeof given === "function" ? given(plot, place) : given;
  const parts = WITH_OPACITY.exec(colour);
  return parts ? { [kind]: parts[1], [`${kind}-opacity`]: round(parseInt(parts[2], 16) / 255) } : { [kind]: colour };
}

/** Yield the curves; a piece of a single point becomes a circle. */
function* curvesOf(plot) {
  for (const [place, series] of plot.series.entries()) {
    if (!place || !series.show || !series.width) continue;
    for (const piece of piecesOf(plot, place)) {
      if (piece.length === 1) yield svgElement("circle", { cx: piece[0][0], cy: piece[0][1], r: 2.5, ...inked("fill", series.stroke, plot, place) });
      else
        yield svgElement("polyline", {
          points: piece.map((point) => point.join()).join(" "),
          fill: "none",
          ...inked("stroke", series.stroke, plot, place),
          "stroke-width": series.width,
          "stroke-dasharray": (series.dash ?? []).join(" "),
          "stroke-linejoin": "round",
        });
    }
  }
}

/** Yield the bands from minimum to maximum. */
function* bandsOf(plot) {
  for (const [place, band] of plot.bands.entries()) {
    const [upper, lower] = band.series.map((column) => piecesOf(plot, column));
    for (const [index, piece] of upper.entries()) {
      const points = [...piece, ...(lower[index] ?? []).toReversed()].map((point) => point.join()).join(" ");
      yield svgElement("polygon", { points, ...inked("fill", band.fill, plot, place), stroke: "none" });
    }
  }
}

/** Yield the marks in sight, each a vertical line with a text. */
function* marksOf(plot, marks) {
  const box = boxOf(plot);
  const { min, max } = plot.scales.x;
  for (const { x: place, text: label, colour } of marks.filter(({ x }) => x >= min && x <= max)) {
    const x = round(box.x + plot.valToPos(place, "x"));
    const ends = { x1: x, x2: x, y1: box.y, y2: box.y + box.height };
    yield svgElement("line", { ...ends, stroke: colour, "stroke-dasharray": "3 3", opacity: 0.6 });
    yield text(label, { x, y: box.y - 3, "font-size": 10, "font-weight": 600, "text-anchor": "middle", fill: colour });
  }
}

/** Return the legend as rows of {line, x}, wrapped at `width`. */
function legendRows(lines, width) {
  const rows = [[]];
  let x = 12;
  for (const line of lines) {
    const needed = 46 + 7 * line.label.length;
    if (x > 12 && x + needed > width) {
      rows.push([]);
      x = 12;
    }
    rows.at(-1).push({ line, x });
    x += needed;
  }
  return rows;
}

/** Return the elements of a legend entry: a piece of the line, and its label. */
function legendEntry({ line, x }, y) {
  const stroke = lineColour(line.colour);
  const dashes = lineDash(line.dash).join(" ");
  return [
    svgElement("line", { x1: x, x2: x + 26, y1: y, y2: y, stroke, "stroke-width": 2, "stroke-dasharray": dashes }),
    text(line.label, { x: x + 32, y: y + 4, "font-size": 12, fill: palette.text }),
  ];
}
