// Epochs of all attempts, and which of them count. Pure.

/** Compare two epochs in the order in which they are stored. */
export function earlierEpochsFirst(left, right) {
  return left.epoch - right.epoch || left.attempt - right.attempt || left.order - right.order;
}

/** Return the newest `most` rows: those of the latest attempts, and within an attempt the last. */
export function newestEpochs(rows, most) {
  return rows
    .toSorted((left, right) => right.attempt - left.attempt || right.epoch - left.epoch || right.order - left.order)
    .slice(0, most);
}

/**
 * Return the rows that count as attempt `last`, or the newest one, left them: an attempt that repeats epochs replaces
 * them and all later ones. If an attempt logged an epoch several times, the newest counts.
 */
export function countedEpochs(rows, last = Infinity) {
  const first = firstEpochs(rows, last);
  return rows.filter(
    (row, index) =>
      !row.abandoned && row.attempt <= last && row.epoch < boundOf(row.attempt, first) && isNewest(rows, index),
  );
}

/** Return the rows that do not count, as lines by attempt and order: [{attempt, order, rows}], the newest last. */
export function earlierEpochs(rows, last = Infinity) {
  const first = firstEpochs(rows, last);
  const others = new Map();
  for (const [index, row] of rows.entries()) {
    const counts = !row.abandoned && row.attempt <= last && row.epoch < boundOf(row.attempt, first);
    if (counts && isNewest(rows, index)) continue;
    const { attempt, order } = row;
    const key = `${attempt}/${order}`;
    if (!others.has(key)) others.set(key, { attempt, order, rows: [] });
    others.get(key).rows.push(row);
  }
  return [...others.values()].sort((left, right) => left.attempt - right.attempt || left.order - right.order);
}

/** Return whether a row, in the order of `earlierEpochsFirst`, is the last one of its epoch in its attempt. */
function isNewest(rows, index) {
  const [row, next] = [rows[index], rows[index + 1]];
  return next?.epoch !== row.epoch || next.attempt !== row.attempt;
}

/** Return the first epoch of each attempt, up to `last`. */
function firstEpochs(rows, last) {
  const first = new Map();
  for (const { attempt, epoch } of rows)
    if (attempt <= last) first.set(attempt, Math.min(epoch, first.get(attempt) ?? Infinity));
  return first;
}

/** Return the epoch from which a later attempt repeated the training. */
function boundOf(attempt, first) {
  let bound = Infinity;
  for (const [other, epoch] of first) if (other > attempt) bound = Math.min(bound, epoch);
  return bound;
}

/** Return the names of all values that `rows` have. */
export function epochNames(rows) {
  return [...new Set(rows.flatMap((row) => [...Object.keys(row.values), ...Object.keys(row.nonfinite)]))];
}

/**
 * Return the value `name` of the epochs that count as attempt `last` left them, as a chart draws it, with the others as
 * earlier lines. `xOf(row)` returns the x of an epoch.
 */
export function epochCurve(rows, last, name, xOf) {
  const tells = (row) => name in row.values || name in row.nonfinite;
  const columnsOf = (own) => ({ xs: own.map(xOf), means: own.map((row) => row.values[name] ?? null) });
  const counted = countedEpochs(rows, last).filter(tells);
  const { xs, means } = columnsOf(counted);
  const odd = counted
    .filter((row) => row.nonfinite[name])
    .map((row) => ({ x: xOf(row), name: row.nonfinite[name], count: 1 }));
  const others = earlierEpochs(rows, last).map((one) => one.rows.filter(tells));
  const earlier = others.filter((own) => own.length).map(columnsOf);
  return { xs, means, mins: means, maxs: means, banded: false, points: xs.length, odd, earlier };
}

/** Return the newest value `name` of the epochs that count: {value, nonfinite}. */
export function newestOfEpochs(rows, last, name) {
  const row = countedEpochs(rows, last).findLast((one) => name in one.values || name in one.nonfinite);
  return { value: row?.values[name] ?? null, nonfinite: row?.nonfinite[name] ?? "" };
}
