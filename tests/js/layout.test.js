// The layout of static/js: small folders, imports in one direction, no circles.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../static/js", import.meta.url));
const MOST_FILES = 15;
// What each folder may import besides itself: other folders, and packages. A new folder needs a line here.
const ALLOWED = {
  shared: [],
  state: ["shared"],
  commands: ["shared", "state"],
  sheets: ["shared"],
  "chart/marks": ["shared"],
  "chart/saving": ["shared"],
  chart: ["shared", "state", "commands", "uplot", "chart/marks", "chart/saving"],
  knobs: ["shared", "state", "commands"],
  "panels/machine": ["shared", "state", "chart"],
  "panels/charts": ["shared", "state", "chart"],
  "panels/terminal": ["shared"],
  panels: ["shared", "state", "commands", "chart", "knobs", "panels/terminal"],
  // Top folders, one per page; no folder imports them. Most pages are not bundled, so they cannot import a package.
  "run/socket": ["shared", "partysocket"],
  run: ["shared", "sheets", "state", "commands", "chart", "knobs", "panels", "panels/charts", "panels/machine", "run/socket"],
  compare: ["shared", "state", "chart", "panels/charts"],
  pages: ["shared", "sheets"],
};
// Statements start a line; a call may be anywhere.
const FORMS = [
  /^(?:import|export)\s[^;"'=(]*?\bfrom\s*["'](.+?)["']/,
  /^import\s*["'](.+?)["']/,
  /\bimport\(\s*["'](.+?)["']/,
];
const IMPORT = new RegExp(FORMS.map((form) => form.source).join("|"), "gm");

const files = readdirSync(ROOT, { recursive: true }).filter((name) => name.endsWith(".js")).sort();
const imports = new Map(files.map((name) => [name, importsOf(name)]));

/** Return the imports of a file: names of files below static/js, and names of packages unchanged. */
function importsOf(name) {
  const found = [...readFileSync(join(ROOT, name), "utf8").matchAll(IMPORT)];
  const paths = found.map(([, from, bare, called]) => from ?? bare ?? called);
  return paths.map((path) => (path.startsWith(".") ? join(dirname(name), path) : path));
}

const folderOf = (name) => dirname(name);
const isFile = (name) => name.endsWith(".js");

test("every file lies in a folder that the test knows", () => {
  const strange = files.filter((name) => !(folderOf(name) in ALLOWED));
  assert.deepEqual(strange, [], "put them into a folder, or give their folder a line in ALLOWED");
});

test("no folder has too many files", () => {
  for (const folder of Object.keys(ALLOWED)) {
    const own = files.filter((name) => folderOf(name) === folder);
    const text = `static/js/${folder} has ${own.length} files: split it, ${MOST_FILES} are enough`;
    assert.ok(own.length <= MOST_FILES, text);
  }
});

test("every import leads to a file", () => {
  for (const [name, paths] of imports) {
    for (const path of paths.filter(isFile))
      assert.ok(existsSync(join(ROOT, path)), `${name} imports ${path}, which is not there`);
  }
});

test("folders import in one direction", () => {
  const wrong = [];
  for (const [name, paths] of imports) {
    const own = folderOf(name);
    for (const path of paths) {
      const target = isFile(path) ? folderOf(path) : path;
      if (target === own || ALLOWED[own]?.includes(target)) continue;
      wrong.push(`${name} imports ${path}: ${own} may import ${ALLOWED[own]?.join(", ") || "no other folder"}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("no imports go in a circle", () => {
  const done = new Set();
  const visit = (name, way) => {
    const begin = way.indexOf(name);
    assert.ok(begin < 0, `a circle of imports: ${[...way.slice(begin), name].join(" → ")}`);
    if (done.has(name)) return;
    for (const path of imports.get(name) ?? []) visit(path, [...way, name]);
    done.add(name);
  };
  for (const name of files) visit(name, []);
});
