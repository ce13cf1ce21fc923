// Marks in a chart for values that are not finite numbers.

import { number } from "../../shared/format.js";
import { palette } from "../../shared/palette.js";

const MOST_MARKS = 200;

/** Draw a mark with its name at every visible x of `odd`, so that such values are never hidden. */
export function drawNonfiniteMarks(plot, odd) {
  const { ctx, bbox } = plot;
  const { min, max } = plot.scales.x;
  const seen = odd.filter((entry) => entry.x >= min && entry.x <= max).slice(-MOST_MARKS);
  if (!seen.length) return;
  const unit = devicePixelRatio;
  ctx.save();
  ctx.fillStyle = ctx.strokeStyle = palette.odd;
  ctx.lineWidth = unit;
  ctx.font = `600 ${10 * unit}px "Inter Variable", system-ui, sans-serif`;
  ctx.textAlign = "center";
  let free = -Infinity;
  for (const entry of seen) {
    const x = plot.valToPos(entry.x, "x", true);
    ctx.setLineDash([3 * unit, 3 * unit]);
    ctx.globalAlpha = 0.5;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.globalAlpha = 1;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x - 4 * unit, bbox.top + 7 * unit);
    ctx.lineTo(x + 4 * unit, bbox.top + 7 * unit);
    ctx.fill();
    if (x < free) continue;
    ctx.fillText(number(null, entry.name), x, bbox.top - 3 * unit);
    free = x + 28 * unit;
  }
  ctx.restore();
}
