// A chart as a picture to save: title, legend and axis around what is on the screen, on the background of the theme.

import { lineColour, lineDash, palette } from "../shared/palette.js";

const FONT = '"Inter Variable", system-ui, sans-serif';
const HEAD = 34;
const FOOT = 24;
const LEGEND = 20;

/** Save the drawn `plot`; `lines`: [{label, colour, dash}]. */
export function savePng({ title, below, axis, lines, plot, file }) {
  const drawn = plot.ctx.canvas;
  const unit = drawn.width / plot.width;
  const legend = lines.length > 1 ? LEGEND * rowsOf(lines, plot.width) : 0;
  const canvas = document.createElement("canvas");
  canvas.width = drawn.width;
  canvas.height = Math.round(drawn.height + (HEAD + legend + FOOT) * unit);
  const pen = canvas.getContext("2d");
  pen.fillStyle = palette.surface;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(drawn, 0, (HEAD + legend) * unit);
  pen.scale(unit, unit);
  pen.textBaseline = "middle";
  pen.fillStyle = palette.text;
  pen.font = `600 14px ${FONT}`;
  pen.fillText(title, 12, HEAD / 2 + 2);
  const end = pen.measureText(title).width + 22;
  pen.fillStyle = palette.axis;
  pen.font = `12px ${FONT}`;
  pen.fillText(below, end, HEAD / 2 + 2);
  if (legend) drawLegend(pen, lines, plot.width);
  pen.textAlign = "center";
  pen.fillStyle = palette.axis;
  pen.fillText(axis, plot.width / 2, plot.height + HEAD + legend + FOOT / 2 - 2);
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${file.replace(/[^\p{L}\p{N}._-]+/gu, "-")}.png`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

function* placesOf(lines, width) {
  let x = 12;
  let row = 0;
  for (const line of lines) {
    const needed = 46 + 7 * line.label.length;
    if (x > 12 && x + needed > width) {
      x = 12;
      row += 1;
    }
    yield { line, x, row };
    x += needed;
  }
}

function rowsOf(lines, width) {
  return [...placesOf(lines, width)].at(-1).row + 1;
}

function drawLegend(pen, lines, width) {
  for (const { line, x, row } of placesOf(lines, width)) {
    const y = HEAD + row * LEGEND + LEGEND / 2;
    pen.strokeStyle = lineColour(line.colour);
    pen.lineWidth = 2;
    pen.setLineDash(lineDash(line.dash));
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(x + 26, y);
    pen.stroke();
    pen.setLineDash([]);
    pen.fillStyle = palette.text;
    pen.fillText(line.label, x + 32, y);
  }
}
