// The small curve of a card.

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

/** Draw the curve of `values` on a canvas with the displayed `size`. */
export function drawSpark(canvas, size, values, colour) {
  const heights = sparkHeights(values);
  const unit = devicePixelRatio;
  const width = Math.round(size.width * unit);
  const height = Math.round(size.height * unit);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  if (!heights) return;
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
