// The options of uPlot for a chart: its columns, scales and axes.

import uPlot from "uplot";
import { faint, lineColour, lineDash, palette } from "../shared/palette.js";
import { aboveZero, logSplits, paddedLogRange, paddedRange, percentRange, tickLabel, TIME_STEPS, valueLabels } from "./scales.js";

const FONT = '11px "Inter Variable", system-ui, sans-serif';
const NONE = { show: false };
const EARLIER_OPACITY = 0.4;

/** Return the number of columns per line: mean, minimum and maximum, and the smoothed mean if there is one. */
export function columnsOf(smoothing) {
  return smoothing ? 4 : 3;
}

/**
 * Return the columns for uPlot: x, then those of each line, then those of its earlier attempts. `smooth(values)`
 * smooths a column; null if nothing is smoothed.
 */
export function dataOf(drawn, smooth, log) {
  const shown = log ? aboveZero : (values) => values;
  const tables = drawn.map(({ xs, means, mins, maxs, banded }) => {
    const none = banded ? null : new Array(xs.length).fill(null);
    const columns = [xs, shown(means), none ?? shown(mins), none ?? shown(maxs)];
    // Smoothed first: a log axis must change only what is visible, not the curve.
    if (smooth) columns.push(shown(smooth(means)));
    return columns;
  });
  for (const { earlier = [] } of drawn) for (const { xs, means } of earlier) tables.push([xs, shown(means)]);
  if (tables.every((table) => sameXs(table[0], tables[0][0]))) {
    return [tables[0][0], ...tables.flatMap((table) => table.slice(1))];
  }
  return uPlot.join(
    tables,
    tables.map((table) => table.map(() => 1)),
  );
}

function sameXs(left, right) {
  return left === right || (left.length === right.length && left[0] === right[0] && left.at(-1) === right.at(-1));
}

/**
 * `over`: the unit of x; `earlier`: the number of earlier attempts of each line; `group`: the charts that share the
 * cursor, if `isVisible()` is true for them; `isPercent`: the scale is from 0 to 100; `limits()` returns [low, high] of
 * the scale, null if it follows the data.
 */
export function plotOptions({ size, over, lines, earlier, log, smoothing, isPercent, limits, group, isVisible, hooks }) {
  const { series, bands } = linesOf(lines, earlier, smoothing);
  const grid = { stroke: () => palette.grid, width: 1 };
  const axis = { stroke: () => palette.axis, font: FONT, grid, ticks: NONE };
  const overTime = over === "time" || over === "relative";
  const across = {
    ...axis,
    size: 28,
    space: 70,
    values: (_, splits, __, ___, step) => splits.map((x) => tickLabel(over, x, step)),
  };
  if (overTime) across.incrs = TIME_STEPS;
  const up = { ...axis, size: 54, space: 34, values: (_, splits) => valueLabels(splits) };
  if (log) Object.assign(up, { splits: logSplits, filter: (_, splits) => splits });
  const range = log ? paddedLogRange : isPercent ? percentRange : paddedRange;
  const y = { range: (plot, min, max) => limits() ?? range(plot, min, max) };
  if (log) Object.assign(y, { distr: 3, log: 10 });
  return {
    ...size,
    padding: [14, overTime ? 26 : 18, 0, 0],
    legend: NONE,
    scales: { x: { time: false }, y },
    series,
    bands,
    axes: [across, up],
    cursor: {
      sync: {
        key: group.key,
        setSeries: false,
        filters: { pub: (type) => type !== "mousedown" && type !== "mouseup", sub: (type) => type === "mouseleave" || isVisible() },
      },
      drag: { x: true, y: false, setScale: false },
      points: { size: 7 },
      y: false,
      // With Shift a drag moves what is shown, and selects nothing.
      bind: { dblclick: () => () => group.reset(), mousedown: (_, __, begin) => (event) => (event.shiftKey ? null : begin(event)) },
    },
    hooks,
  };
}

/** Return the colour of a line, paler while the pointer is at another line. */
function strokeOf(line) {
  const colour = lineColour(line.colour);
  return line.isFaint?.() ? faint(colour, 0.25) : colour;
}

function linesOf(lines, earlier, smoothing) {
  const stride = columnsOf(smoothing);
  const series = [{}];
  const bands = [];
  const edge = { stroke: "transparent", width: 0, points: NONE };
  for (const [index, line] of lines.entries()) {
    const stroke = () => strokeOf(line);
    const curve = { stroke, width: 1.6, dash: lineDash(line.dash), points: { stroke, fill: stroke, size: 5 } };
    const raw = { stroke: () => faint(lineColour(line.colour), line.isFaint?.() ? 0.1 : 0.3), width: 1, points: NONE };
    series.push(smoothing ? raw : curve, edge, edge);
    if (smoothing) series.push(curve);
    const place = index * stride;
    const opacity = smoothing ? 0.12 : 0.2;
    const fill = () => faint(lineColour(line.colour), line.isFaint?.() ? opacity / 4 : opacity);
    bands.push({ series: [place + 3, place + 2], fill });
  }
  for (const [index, line] of lines.entries()) {
    const stroke = () => faint(lineColour(line.colour), EARLIER_OPACITY);
    for (let number = 0; number < earlier[index]; number += 1) series.push({ stroke, width: 1.2, points: NONE });
  }
  return { series, bands };
}
