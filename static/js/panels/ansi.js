// Divides terminal text into pieces of one colour. Pure.

// Escape sequences for colours and cursor movement (CSI), for titles (OSC), and single ones.
const ANSI = /\u001b(?:\[([0-?]*)[ -/]*([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g;
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
const COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/** Return the pieces of a line as [{text, colour, isBold}]; `colour` is one of eight names, "" for the default. */
export function piecesOf(line) {
  const pieces = [];
  let look = { colour: "", isBold: false };
  let end = 0;
  const add = (text) => {
    const clean = text.replace(CONTROL, "");
    if (clean) pieces.push({ text: clean, ...look });
  };
  for (const { 0: sequence, 1: codes, 2: kind, index } of line.matchAll(ANSI)) {
    add(line.slice(end, index));
    end = index + sequence.length;
    if (kind === "m") look = lookAfter(look, codes.split(";").map(Number));
  }
  add(line.slice(end));
  return pieces;
}

function lookAfter(look, codes) {
  const next = { ...look };
  for (let place = 0; place < codes.length; place += 1) {
    const code = codes[place];
    if (code === 0) Object.assign(next, { colour: "", isBold: false });
    else if (code === 1) next.isBold = true;
    else if (code === 22) next.isBold = false;
    else if (code === 39) next.colour = "";
    else if (code >= 30 && code <= 37) next.colour = COLOURS[code - 30];
    else if (code >= 90 && code <= 97) next.colour = COLOURS[code - 90];
    else if (code === 38 || code === 48) {
      // One of 256 colours, or an RGB colour: only the first sixteen of the 256 have a name.
      const isIndexed = codes[place + 1] === 5;
      if (code === 38 && isIndexed && codes[place + 2] < 16) next.colour = COLOURS[codes[place + 2] % 8];
      place += isIndexed ? 2 : 4;
    }
  }
  return next;
}
