// Epochs of all attempts: which of them count. Pure.

/** The order in which epochs are kept. */
export function earlierEpochsFirst(left, right) {
  return left.epoch - right.epoch || left.attempt - right.attempt;
}

/** Return the newest `most` rows: of the latest attempts, and of those the last. */
export function newestEpochs(rows, most) {
  return rows.toSorted((left, right) => right.attempt - left.attempt || right.epoch - left.epoch).slice(0, most);
}

/**
 * Return the rows that count as attempt `last` left them, or as the newest one did: an attempt that trains epochs again
 * takes their place, and that of all behind them.
 */
export function countedEpochs(rows, last = Infinity) {
  const first = firstEpochs(rows, last);
  return rows.filter((row) => row.attempt <= last && row.epoch < boundOf(row.attempt, first));
}

/** Return the rows that do not count, by attempt: [{attempt, rows}], the newest attempt last. */
export function earlierEpochs(rows, last = Infinity) {
  const first = firstEpochs(rows, last);
  const others = new Map();
  for (const row of rows) {
    if (row.attempt <= last && row.epoch < boundOf(row.attempt, first)) continue;
    if (!others.has(row.attempt)) others.set(row.attempt, []);
    others.get(row.attempt).push(row);
  }
  return [...others].sort(([left], [right]) => left - right).map(([attempt, own]) => ({ attempt, rows: own }));
}

/** Return the first epoch of each attempt, up to `last`. */
function firstEpochs(rows, last) {
  const first = new Map();
  for (const { attempt, epoch } of rows)
    if (attempt <= last) first.set(attempt, Math.min(epoch, first.get(attempt) ?? Infinity));
  return first;
}

/** Return the epoch from which a later attempt trained again. */
function boundOf(attempt, first) {
  let bound = Infinity;
  for (const [other, epoch] of first) if (other > attempt) bound = Math.min(bound, epoch);
  return bound;
}
