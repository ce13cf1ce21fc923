// Divides terminal text into pieces of one look. Pure.

// Escape sequences for colours and cursor movement (CSI), for titles (OSC), and single ones.
const ANSI = /\u001b(?:\[([0-?]*)[ -/]*([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g;
const PRIVATE = /[<=>?]/;
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const PLAIN = { colour: "", ground: "", isBold: false, isDim: false, isUnderlined: false };
const CHANGES = new Map([
  [0, PLAIN],
  [1, { isBold: true }],
  [2, { isDim: true }],
  [4, { isUnderlined: true }],
  [21, { isUnderlined: true }],
  [22, { isBold: false, isDim: false }],
  [24, { isUnderlined: false }],
  [39, { colour: "" }],
  [49, { ground: "" }],
]);
// The steps of red, green and blue in the cube of 216 colours, and the first of the 24 greys after it.
const CUBE = [0, 95, 135, 175, 215, 255];
const FIRST_OF_CUBE = 16;
const FIRST_GREY = 232;

/**
 * Return the pieces of a line as [{text, colour, ground, isBold, isDim, isUnderlined}]. A colour is the name of one of
 * the terminal's 16 ("red", "bright-red"), "#rrggbb", or "" for the default.
 */
export function piecesOf(line) {
  const pieces = [];
  let look = PLAIN;
  let end = 0;
  const add = (text) => {
    const clean = text.replace(CONTROL, "");
    if (clean) pieces.push({ text: clean, ...look });
  };
  for (const { 0: sequence, 1: codes, 2: kind, index } of line.matchAll(ANSI)) {
    add(line.slice(end, index));
    end = index + sequence.length;
    if (kind === "m" && !PRIVATE.test(codes)) look = lookAfter(look, codes);
  }
  add(line.slice(end));
  return pieces;
}

function lookAfter(look, codes) {
  const next = { ...look };
  const parts = codes.split(";");
  while (parts.length) {
    // The parts of one code may be separated by colons: 4:3, 38:5:200, 38:2::1:2:3.
    const [first, ...own] = parts.shift().split(":");
    const code = Number(first);
    if (code === 38 || code === 48) next[code === 38 ? "colour" : "ground"] = chosen(own.length ? inColons(own) : parts);
    else if (code === 4 && own[0] === "0") next.isUnderlined = false;
    else Object.assign(next, CHANGES.get(code) ?? named(code));
  }
  return next;
}

function named(code) {
  if (code >= 30 && code <= 37) return { colour: NAMES[code - 30] };
  if (code >= 40 && code <= 47) return { ground: NAMES[code - 40] };
  if (code >= 90 && code <= 97) return { colour: `bright-${NAMES[code - 90]}` };
  if (code >= 100 && code <= 107) return { ground: `bright-${NAMES[code - 100]}` };
  return {};
}

/** Return the numbers without the name of a colour space, which only this form has. */
function inColons(own) {
  return own[0] === "2" && own.length > 4 ? ["2", ...own.slice(2)] : [...own];
}

/** Take the numbers of one of 256 colours, or of an RGB colour, from `parts`, and return the colour. */
function chosen(parts) {
  const form = Number(parts.shift());
  if (form === 5) return indexed(byte(parts.shift()));
  return form === 2 ? hex(parts.splice(0, 3).map(byte)) : "";
}

function indexed(index) {
  if (index < FIRST_OF_CUBE) return index < 8 ? NAMES[index] : `bright-${NAMES[index - 8]}`;
  if (index >= FIRST_GREY) return hex(Array(3).fill(8 + 10 * (index - FIRST_GREY)));
  const place = index - FIRST_OF_CUBE;
  return hex([Math.floor(place / 36), Math.floor(place / 6) % 6, place % 6].map((step) => CUBE[step]));
}

function byte(part) {
  return Math.min(255, Math.max(0, Math.trunc(Number(part)) || 0));
}

function hex(channels) {
  return `#${[0, 1, 2].map((place) => (channels[place] ?? 0).toString(16).padStart(2, "0")).join("")}`;
}
