// Marks for values outside of a chart's scale: an arrow at the edge, with the value if there is space.

import { number } from "../../shared/format.js";
import { palette } from "../../shared/palette.js";

const MOST_MARKS = 200;
const ROOM_OF_TEXT = 42;

/** Draw `points`, [{x, value, isAbove}] ordered by x, at the edges of the plot. */
export function drawOffScale(plot, points) {
  const { ctx, bbox } = plot;
  const { min, max } = plot.scales.x;
  const seen = points.filter(({ x }) => x >= min && x <= max).slice(-MOST_MARKS);
  if (!seen.length) return;
  const unit = devicePixelRatio;
  ctx.save();
  ctx.fillStyle = palette.mark;
  ctx.font = `600 ${10 * unit}px "Inter Variable", system-ui, sans-serif`;
  ctx.textAlign = "center";
  const free = { true: -Infinity, false: -Infinity };
  for (const { x: place, value, isAbove } of seen) {
    const x = plot.valToPos(place, "x", true);
    const edge = isAbove ? bbox.top : bbox.top + bbox.height;
    const inward = (isAbove ? 1 : -1) * unit;
    ctx.beginPath();
    ctx.moveTo(x, edge);
    ctx.lineTo(x - 4 * unit, edge + 7 * inward);
    ctx.lineTo(x + 4 * unit, edge + 7 * inward);
    ctx.fill();
    if (x < free[isAbove]) continue;
    ctx.fillText(number(value), x, isAbove ? edge + 18 * unit : edge - 10 * unit);
    free[isAbove] = x + ROOM_OF_TEXT * unit;
  }
  ctx.restore();
}
