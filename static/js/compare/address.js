// The parameters in the address of a comparison other than its runs: hidden runs, x, search and zoom.

const OVER = ["step", "epoch", "time", "relative"];

/**
 * Return {hidden, over, search, zooms, facts} of a query: `hidden` are numbers of runs, `zooms` has {from, to} by x,
 * and `facts` {x, y} are the axes of the scatter chart.
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
  const facts = { x: fields.get("fact_x") ?? "", y: fields.get("fact_y") ?? "" };
  return { hidden, over: OVER.includes(over) ? over : "", search: fields.get("search") ?? "", zooms, facts };
}

/** Return the query with the current values; its other parameters stay. */
export function writeAddress(query, { hidden, over, search, zooms, facts = {} }) {
  const fields = new URLSearchParams(query);
  const put = (name, value) => (value ? fields.set(name, value) : fields.delete(name));
  put("hidden", [...hidden].join(","));
  put("x", over === "step" ? "" : over);
  put("search", search);
  put("fact_x", facts.x);
  put("fact_y", facts.y);
  fields.delete("zoom");
  for (const [x, { from, to }] of zooms) fields.append("zoom", [x, short(from), short(to)].join(","));
  return fields.toString().replaceAll("%2C", ",");
}

function short(value) {
  return Number(value.toPrecision(12));
}
