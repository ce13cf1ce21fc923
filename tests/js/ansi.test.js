import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { piecesOf } from "../../static/js/panels/terminal/ansi.js";
import { coloursOf, contrast, DEFAULTS, TEXTS } from "../../static/js/panels/terminal/colours.js";

const PLAIN = { colour: "", ground: "", isBold: false, isDim: false, isUnderlined: false };
const colours = (line) => piecesOf(line).map(({ colour }) => colour);
const grounds = (line) => piecesOf(line).map(({ ground }) => ground);

test("it tells the colours of a terminal, and drops what moves or sets titles", () => {
  assert.deepEqual(piecesOf("plain"), [{ ...PLAIN, text: "plain" }]);
  assert.deepEqual(piecesOf("\u001b[1;31merror\u001b[0m: \u001b[92mfine\u001b[39m\u001b[2K\u001b]0;title\u0007!\u0008"), [
    { ...PLAIN, text: "error", colour: "red", isBold: true },
    { ...PLAIN, text: ": " },
    { ...PLAIN, text: "fine", colour: "bright-green" },
    { ...PLAIN, text: "!" },
  ]);
});

test("it tells grounds, dim and underlined text", () => {
  assert.deepEqual(piecesOf("\u001b[37;41;4ma\u001b[24;49mb\u001b[2;101mc\u001b[22;4:3md\u001b[4:0me"), [
    { ...PLAIN, text: "a", colour: "white", ground: "red", isUnderlined: true },
    { ...PLAIN, text: "b", colour: "white" },
    { ...PLAIN, text: "c", colour: "white", ground: "bright-red", isDim: true },
    { ...PLAIN, text: "d", colour: "white", ground: "bright-red", isUnderlined: true },
    { ...PLAIN, text: "e", colour: "white", ground: "bright-red" },
  ]);
});

test("it tells the 256 colours and RGB colours, separated by semicolons or colons", () => {
  assert.deepEqual(colours("\u001b[38;5;9ma\u001b[38;5;200mb\u001b[38;5;244mc\u001b[38;2;1;31;3md\u001b[48;5;34me"), [
    "bright-red",
    "#ff00d7",
    "#808080",
    "#011f03",
    "#011f03",
  ]);
  assert.deepEqual(grounds("\u001b[48;5;3;1ma\u001b[48:5:46mb\u001b[48:2::1:2:3mc\u001b[48:2:4:5:6md\u001b[49me"), [
    "yellow",
    "#00ff00",
    "#010203",
    "#040506",
    "",
  ]);
  assert.deepEqual(piecesOf("\u001b[48;5;3;1ma")[0].isBold, true);
});

test("what is cut off, unknown or private changes nothing that can be seen", () => {
  assert.deepEqual(piecesOf("\u001b[m"), []);
  assert.deepEqual(colours("\u001b[38;2;300ma\u001b[38;9mb"), ["#ff0000", ""]);
  assert.deepEqual(piecesOf("\u001b[>4;2ma\u001b[99999mb"), [
    { ...PLAIN, text: "a" },
    { ...PLAIN, text: "b" },
  ]);
});

test("a piece has its colours only if it can be read, in both themes", () => {
  const names = Object.keys(TEXTS);
  const codes = [
    "",
    ...names,
    ...Array.from({ length: 256 }, (_, index) => piecesOf(`\u001b[38;5;${index}ma`)[0].colour),
  ];
  for (const colour of codes) {
    for (const ground of codes) {
      for (const isDim of [false, true]) {
        const shown = coloursOf({ colour, ground, isDim });
        for (const [text, under] of DEFAULTS) {
          const front = shown.name ? TEXTS[shown.name] : shown.colour || text;
          assert.ok(contrast(front, shown.ground || under) >= 4.5, JSON.stringify({ colour, ground, isDim, shown }));
        }
      }
    }
  }
});

test("it keeps what can be read, and the default replaces what cannot", () => {
  const shown = (line) => coloursOf(piecesOf(line)[0]);
  assert.deepEqual(shown("\u001b[31ma"), { name: "red", colour: "", ground: "" });
  assert.deepEqual(shown("\u001b[38;2;255;128;0ma"), { name: "", colour: "#ff8000", ground: "" });
  assert.deepEqual(shown("\u001b[38;2;0;0;90ma"), { name: "", colour: "", ground: "" });
  assert.deepEqual(shown("\u001b[38;2;0;0;0;48;2;255;255;0ma"), { name: "", colour: "#000000", ground: "#ffff00" });
  assert.deepEqual(shown("\u001b[48;2;255;255;0ma"), { name: "", colour: "", ground: "" });
  assert.notEqual(shown("\u001b[41ma").ground, "");
  assert.notEqual(shown("\u001b[2ma").colour, "");
  // All named grounds are shown below text in the default colour.
  for (let code = 40; code < 48; code += 1) assert.notEqual(shown(`\u001b[${code}ma`).ground, "", String(code));
  for (let code = 100; code < 108; code += 1) assert.notEqual(shown(`\u001b[${code}ma`).ground, "", String(code));
});

test("the style sheets have the same colours", () => {
  const css = (name) => readFileSync(new URL(`../../static/css/${name}.css`, import.meta.url), "utf8");
  const long = (colour) => (colour.length === 4 ? colour.replace(/[0-9a-f]/g, "$&$&") : colour);
  const classes = Object.fromEntries(
    [...css("run").matchAll(/^\.ansi-([a-z-]+) \{ color: (#[0-9a-f]+); \}$/gm)].map(([, name, colour]) => [name, long(colour)]),
  );
  assert.deepEqual(classes, TEXTS);
  const variable = (name) => [...css("portal").matchAll(new RegExp(`--cx-${name}: (#[0-9a-f]+);`, "g"))].map(([, colour]) => colour);
  const [texts, unders] = [variable("console-text"), variable("console")];
  assert.deepEqual(texts.map((text, theme) => [text, unders[theme]]), DEFAULTS);
});
