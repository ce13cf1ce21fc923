// The parameters in the address of a comparison other than its runs: how it is shown.

import { readDrawing, readOwn, writeDrawing, writeOwn } from "../panels/charts/view_link.js";

const OVER = ["step", "epoch", "time", "relative"];
const DRAWN = ["smooth", "log", "outliers", "log_of", "linear_of", "range"];
const FOLDS = { fold: false, unfold: true };
const NAMES = ["hidden", "x", "search", "fact_x", "fact_y", "fact_xlog", "fact_ylog", "axis", "brush", ...DRAWN, ...Object.keys(FOLDS), "zoom"];

/**
 * Return {hidden, over, search, zooms, facts, axes, ranges, drawing, own, folds} of a query: `hidden` are numbers of
 * runs, `zooms` has {from, to} by x, and `facts` {x, y, xlog, ylog} are the axes of the scatter chart. `axes` are the
 * keys of the axes of the parallel coordinates, null if none were chosen, and `ranges` [low, high] by such a key.
 * `drawing` is how all charts are drawn, null if the address says nothing but which runs are compared; `own` has
 * {log, range} of single charts by key, and `folds` whether groups of charts are open.
 */
export function readAddress(query) {
  const fields = new URLSearchParams(query);
  const hidden = (fields.get("hidden") ?? "").split(",").filter(Boolean).map(Number).filter(Number.isInteger);
  const zooms = new Map();
  for (const text of fields.getAll("zoom")) {
    const [x, ...bounds] = text.split(",");
    const [from, to] = bounds.map(Number);
    if (bounds.length === 2 && to > from && Number.isFinite(to - from)) zooms.set(x, { from, to });
  }
  const over = fields.get("x");
  const isLog = (name) => fields.get(`fact_${name}log`) === "1";
  return {
    hidden,
    over: OVER.includes(over) ? over : "",
    search: fields.get("search") ?? "",
    zooms,
    facts: { x: fields.get("fact_x") ?? "", y: fields.get("fact_y") ?? "", xlog: isLog("x"), ylog: isLog("y") },
    // One that is empty says that all axes were left out.
    axes: fields.has("axis") ? [...new Set(fields.getAll("axis").filter(Boolean))] : null,
    ranges: new Map(fields.getAll("brush").flatMap(rangeOf)),
    drawing: NAMES.some((name) => fields.has(name)) ? readDrawing(fields) : null,
    own: readOwn(fields),
    folds: Object.fromEntries(
      Object.entries(FOLDS).flatMap(([name, isOpen]) => fields.getAll(name).map((key) => [key, isOpen])),
    ),
  };
}

/** Return the query with the current values; its other parameters stay. */
export function writeAddress(query, view) {
  const { hidden, over, search, zooms, facts = {}, axes = null, ranges = [], drawing = null, own = {}, folds = {} } = view;
  const fields = new URLSearchParams(query);
  const put = (name, value) => (value ? fields.set(name, value) : fields.delete(name));
  put("hidden", [...hidden].join(","));
  put("x", over === "step" ? "" : over);
  put("search", search);
  put("fact_x", facts.x);
  put("fact_y", facts.y);
  for (const name of ["xlog", "ylog"]) put(`fact_${name}`, facts[name] ? "1" : "");
  for (const name of [...DRAWN, ...Object.keys(FOLDS), "zoom", "axis", "brush"]) fields.delete(name);
  for (const key of axes?.length === 0 ? [""] : (axes ?? [])) fields.append("axis", key);
  for (const [key, range] of ranges) fields.append("brush", JSON.stringify([key, ...range]));
  if (drawing) writeDrawing(fields, drawing);
  writeOwn(fields, own);
  for (const [key, isOpen] of Object.entries(folds)) fields.append(isOpen ? "unfold" : "fold", key);
  for (const [x, { from, to }] of zooms) fields.append("zoom", [x, short(from), short(to)].join(","));
  return fields.toString().replaceAll("%2C", ",");
}

/**
 * Return the colours of `count` runs (or groups) in their order: those that a query has, and for others the first free
 * ones. A run so keeps its colour after another one was left out.
 */
export function coloursOf(query, count) {
  const texts = (new URLSearchParams(query).get("colours") ?? "").split(",").slice(0, count);
  const known = texts.map((text) => (/^\d{1,3}$/.test(text) ? Number(text) : null));
  const taken = new Set(known);
  let free = 0;
  return Array.from({ length: count }, (_, place) => {
    const own = known[place] ?? null;
    if (own !== null && known.indexOf(own) === place) return own;
    while (taken.has(free)) free += 1;
    taken.add(free);
    return free;
  });
}

/**
 * Return the query without the run (or group) at index `place`; `left` are the numbers of the runs that stay, and
 * `colours` those of all that are compared now. How the page is shown stays.
 */
export function leaveOut(query, place, left, colours, isGrouped) {
  const fields = new URLSearchParams(query);
  const out = fields.getAll("run").filter((run) => !left.includes(run));
  fields.delete("run");
  const rest = [...fields];
  const others = new URLSearchParams([...left.map((run) => ["run", run]), ...rest]);
  others.set("colours", colours.filter((_, index) => index !== place).join(","));
  const hidden = (others.get("hidden") ?? "").split(",").filter((run) => !out.includes(run));
  // Of groups, these are indices, which change.
  if (isGrouped || !hidden.join("")) others.delete("hidden");
  else others.set("hidden", hidden.join(","));
  if (isGrouped || out.includes(others.get("baseline"))) others.delete("baseline");
  return others.toString().replaceAll("%2C", ",");
}

/** Return [[key, [low, high]]] of a text as JSON, because keys and values may have any character; [] if it has no range. */
function rangeOf(text) {
  let parts;
  try {
    parts = JSON.parse(text);
  } catch {
    return [];
  }
  if (!Array.isArray(parts)) return [];
  const [key, ...ends] = parts;
  const bounds = ends.filter((end) => end !== null);
  const isRange = ends.length === 2 && bounds.length > 0 && ["number", "string"].some((kind) => bounds.every((end) => typeof end === kind));
  return typeof key === "string" && isRange ? [[key, ends]] : [];
}

function short(value) {
  return Number(value.toPrecision(12));
}
