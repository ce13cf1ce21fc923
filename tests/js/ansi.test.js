import assert from "node:assert/strict";
import { test } from "node:test";

import { piecesOf } from "../../static/js/panels/ansi.js";

test("it tells the colours of a terminal, and drops what moves or sets titles", () => {
  assert.deepEqual(piecesOf("plain"), [{ text: "plain", colour: "", isBold: false }]);
  assert.deepEqual(piecesOf("\u001b[1;31merror\u001b[0m: \u001b[92mfine\u001b[39m\u001b[2K\u001b]0;title\u0007!\u0008"), [
    { text: "error", colour: "red", isBold: true },
    { text: ": ", colour: "", isBold: false },
    { text: "fine", colour: "green", isBold: false },
    { text: "!", colour: "", isBold: false },
  ]);
});

test("it knows the first of 256 colours, and skips the parts of others", () => {
  const colours = (line) => piecesOf(line).map(({ colour }) => colour);
  assert.deepEqual(colours("\u001b[38;5;9ma\u001b[38;5;200mb\u001b[38;2;1;31;3mc\u001b[48;5;34md"), ["red", "red", "red", "red"]);
  assert.deepEqual(piecesOf("\u001b[m"), []);
});
