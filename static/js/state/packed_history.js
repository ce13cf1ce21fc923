// The history of a run with its charts in binary columns: see runs/api/history_columns.py. Pure.

const COLUMNS = ["steps", "first_steps", "times", "counts", "values", "min", "max", "mean"];
const THOUSAND = 1000;

/** Return the history as in JSON from an ArrayBuffer. */
export function unpackHistory(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const { wide_rows: wideRows, ...history } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const wideAt = 4 + length;
  const narrowAt = wideAt + wideRows * Float64Array.BYTES_PER_ELEMENT;
  for (const { attempts, laps } of Object.values(history.series)) {
    const again = Object.values(laps).flatMap((charts) => Object.values(charts));
    for (const chart of [...Object.values(attempts), ...again]) {
      for (const name of COLUMNS) {
        if (chart[name]?.length) chart[name] = columnOf(buffer, wideAt, narrowAt, chart[name]);
      }
    }
  }
  return history;
}

function columnOf(buffer, wideAt, narrowAt, [kind, place, rows, first]) {
  const narrow = (Kind) => new Kind(buffer, narrowAt + place * Kind.BYTES_PER_ELEMENT, rows);
  switch (kind) {
    case "float":
      return finite(narrow(Float32Array));
    case "count":
      return Array.from(narrow(Uint32Array));
    case "differences":
      return summed(narrow(Int32Array), first);
    case "milli_differences":
      return summed(narrow(Int32Array), first, THOUSAND);
    default:
      return finite(new Float64Array(buffer, wideAt + place * Float64Array.BYTES_PER_ELEMENT, rows));
  }
}

function summed(differences, first, parts = 1) {
  let sum = first;
  return Array.from(differences, (difference) => {
    sum += difference;
    return sum / parts;
  });
}

function finite(values) {
  return Array.from(values, (value) => (Number.isNaN(value) ? null : value));
}
