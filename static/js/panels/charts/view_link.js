// Converts a view of the charts to a query, and back: drawing, zoom, pins and search. Pure.

import { KINDS } from "../../chart/smoothing.js";

const OVER = ["step", "epoch", "time", "relative"];
// The parameters for the zoom of charts over steps, and of charts of the machine.
const ZOOMS = { step: "zoom", time: "machine" };

/**
 * Return the query of `view`: {smoothing, kind, log, outliers, over, attempt, zooms: {axis: {from, to}}, pins: [key],
 * find, own: {key: {log, range}}, added: {key: [name]}}. Defaults are left out.
 */
export function queryOf(view) {
  const query = new URLSearchParams();
  writeDrawing(query, view);
  if (view.over !== "step") query.set("over", view.over);
  if (Number.isFinite(view.attempt)) query.set("attempt", view.attempt);
  for (const [axis, name] of Object.entries(ZOOMS)) {
    const zoom = view.zooms[axis];
    if (zoom) query.set(name, `${zoom.from}:${zoom.to}`);
  }
  if (view.find) query.set("find", view.find);
  for (const key of view.pins) query.append("pin", key);
  writeOwn(query, view.own);
  for (const [key, names] of Object.entries(view.added)) for (const name of names) query.append("with", JSON.stringify([key, name]));
  // Marks the address as a view, even if everything is the default.
  query.set("view", "1");
  return query;
}

/** Write how all charts are drawn, without the unit of x: {smoothing, kind, log, outliers}. */
export function writeDrawing(query, { smoothing, kind, log, outliers }) {
  if (smoothing) query.set("smooth", `${kind}:${smoothing}`);
  if (log) query.set("log", "1");
  if (!outliers) query.set("outliers", "0");
}

export function readDrawing(query) {
  const [kind, smoothing] = (query.get("smooth") ?? "").split(":");
  return {
    kind: KINDS.includes(kind) ? kind : KINDS[0],
    smoothing: Number(smoothing) || 0,
    log: query.get("log") === "1",
    outliers: query.get("outliers") !== "0",
  };
}

/** Write the log axis and range of single charts: {key: {log, range}}. */
export function writeOwn(query, own) {
  for (const [key, { log, range }] of Object.entries(own)) {
    if (log !== null) query.append(log ? "log_of" : "linear_of", key);
    if (range) query.append("range", `${range.join(":")}:${key}`);
  }
}

export function readOwn(query) {
  // A map, because a key may be the name of a property that all objects have.
  const own = new Map();
  const ownOf = (key) => {
    if (!own.has(key)) own.set(key, { log: null, range: null });
    return own.get(key);
  };
  for (const key of query.getAll("log_of")) ownOf(key).log = true;
  for (const key of query.getAll("linear_of")) ownOf(key).log = false;
  for (const text of query.getAll("range")) {
    const [low, high, ...key] = text.split(":");
    if (Number(low) < Number(high)) ownOf(key.join(":")).range = [Number(low), Number(high)];
  }
  return Object.fromEntries(own);
}

/** Return the view in the query of an address, null if there is none. Invalid parts get their defaults. */
export function viewOf(search) {
  const query = new URLSearchParams(search);
  if (!query.has("view")) return null;
  const zooms = Object.entries(ZOOMS).map(([axis, name]) => [axis, zoomOf(query.get(name))]);
  return {
    ...readDrawing(query),
    over: OVER.includes(query.get("over")) ? query.get("over") : "step",
    attempt: Number(query.get("attempt")) || Infinity,
    zooms: Object.fromEntries(zooms),
    find: query.get("find") ?? "",
    pins: query.getAll("pin"),
    own: readOwn(query),
    added: addedOf(query.getAll("with")),
  };
}

function zoomOf(text) {
  const [from, to] = (text ?? "").split(":").map(Number);
  return from < to ? { from, to } : null;
}

function addedOf(texts) {
  const added = {};
  for (const text of texts) {
    try {
      const [key, name] = JSON.parse(text);
      if (typeof key === "string" && typeof name === "string") (added[key] ??= []).push(name);
    } catch {
      // the address was cut
    }
  }
  return added;
}
