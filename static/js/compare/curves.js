// The portal's binary answer with the points of many runs: see `encode` in runs/portal/compare/curves.py. Pure.

const ALIGNMENT = 8;

/**
 * Return [{key, run, last, odd, columns}] from an ArrayBuffer; the columns of each curve have the form of
 * state/columns.js.
 */
export function decodeCurves(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const { curves } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  const take = (Kind, rows) => {
    const column = new Kind(buffer, at, rows);
    at += Math.ceil(column.byteLength / ALIGNMENT) * ALIGNMENT;
    return column;
  };
  return curves.map((curve) => {
    const [last, odd] = curve.last;
    return { key: curve.key, run: curve.run, last, odd, columns: columnsOf(curve, take) };
  });
}

function columnsOf({ axis, rows, raw, wide, odd }, take) {
  const steps = Array.from(take(Float64Array, rows));
  const times = Array.from(take(Float64Array, rows));
  const Values = wide ? Float64Array : Float32Array;
  const means = finite(take(Values, rows));
  const mins = raw ? means : finite(take(Values, rows));
  const maxs = raw ? means : finite(take(Values, rows));
  const weights = raw ? steps.map(() => 1) : Array.from(take(Uint32Array, rows));
  const finites = raw ? means.map((value) => Number(value !== null)) : Array.from(take(Uint32Array, rows));
  const xs = axis === "time" ? times : steps;
  return { axis, firsts: xs, xs, times, means, mins, maxs, weights, finites, odd: odd.map(named) };
}

function named([x, name, count]) {
  return { x, name, count };
}

function finite(values) {
  return Array.from(values, (value) => (Number.isFinite(value) ? value : null));
}
