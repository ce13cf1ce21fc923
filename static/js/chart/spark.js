// The small curve of a card, and the strip of a measure that has a fixed range.

import { isFlat } from "./scales.js";

/**
 * Return the height of each value from 0 to 1, null if it has none; equal values are in the middle. Returns null if
 * there is no curve.
 */
export function sparkHeights(values) {
  const finite = values.filter((value) => value !== null);
  if (finite.length < 2) return null;
  const low = Math.min(...finite);
  const high = Math.max(...finite);
  const flat = isFlat(low, high);
  return values.map((value) => (value === null ? null : flat ? 0.5 : (value - low) / (high - low)));
}

/** Draw `values` from zero up as a filled strip; `most` is its upper end, null for the largest value. */
export function drawStrip(canvas, size, values, most, colour) {
  const pen = penOf(canvas, size);
  const known = values.filter((value) => value !== null);
  if (!pen || known.length < 2) return;
  const { width, height } = canvas;
  const top = most ?? Math.max(...known);
  const yOf = (value) => height - Math.max(0, Math.min(1, top > 0 ? value / top : 0)) * (height - devicePixelRatio);
  pen.beginPath();
  pen.moveTo(0, height);
  values.forEach((value, index) => pen.lineTo((index / (values.length - 1)) * width, yOf(value ?? 0)));
  pen.lineTo(width, height);
  pen.closePath();
  pen.fillStyle = colour;
  pen.globalAlpha = 0.35;
  pen.fill();
  pen.globalAlpha = 1;
}

/** Return the pen of an empty canvas with the pixels of its place, null if it is not shown. */
function penOf(canvas, size) {
  const width = Math.round(size.width * devicePixelRatio);
  const height = Math.round(size.height * devicePixelRatio);
  if (!width || !height) return null;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  return pen;
}

/** Draw the curve of `values` on a canvas that is shown in `size`. */
export function drawSpark(canvas, size, values, colour) {
  const heights = sparkHeights(values);
  const unit = devicePixelRatio;
  const pen = penOf(canvas, size);
  if (!pen || !heights) return;
  const { width, height } = canvas;
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5 * unit;
  pen.lineJoin = "round";
  pen.beginPath();
  let down = false;
  heights.forEach((share, index) => {
    if (share === null) {
      down = false;
      return;
    }
    const x = (index / (heights.length - 1)) * (width - 4 * unit) + 2 * unit;
    const y = height - 2 * unit - share * (height - 4 * unit);
    if (down) pen.lineTo(x, y);
    else pen.moveTo(x, y);
    down = true;
  });
  pen.stroke();
}
