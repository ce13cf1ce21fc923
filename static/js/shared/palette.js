// Colours of charts by Okabe and Ito, which colour-blind readers can distinguish; dashes distinguish lines in
// greyscale.

const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#b0568a", "#b87d00", "#3a8fc0", "#56606e"];
const DARK = ["#56b4e9", "#ff8a3d", "#2fc997", "#e39cc4", "#f0b429", "#8fd0f5", "#c3cad4"];
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [12, 4], [4, 2], [1, 2]];

export const palette = { lines: LIGHT, grid: "", axis: "", odd: "", mark: "", surface: "", text: "", version: 0 };

export function lineColour(index) {
  return palette.lines[index % palette.lines.length];
}

/** Return the number of colours, after which lines start again with the first. */
export function lineColours() {
  return palette.lines.length;
}

export function lineDash(index) {
  return DASHES[index % DASHES.length];
}

/** Return a colour with an opacity from 0 to 1. */
export function faint(colour, opacity) {
  return (
    colour +
    Math.round(opacity * 255)
      .toString(16)
      .padStart(2, "0")
  );
}

export function readPalette() {
  const dark = document.documentElement.dataset.bsTheme === "dark";
  palette.lines = dark ? DARK : LIGHT;
  palette.grid = dark ? "#ffffff12" : "#1f293712";
  palette.axis = dark ? "#98a6b8" : "#667382";
  palette.odd = dark ? "#ff8a3d" : "#c04a00";
  palette.mark = dark ? "#eab2d2" : "#8c3f6b";
  palette.surface = dark ? "#152130" : "#ffffff";
  palette.text = dark ? "#e4ebf3" : "#16202c";
  palette.version += 1;
}

readPalette();
