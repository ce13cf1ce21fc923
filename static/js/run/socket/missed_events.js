// Whether a page missed events that `pong` named. Pure.

/**
 * Return {seq, at}: an event that was told of and is not held, and since when; null if all is held.
 * `known` is what was missing before, `held` the last event applied, `told` the newest that a pong names.
 */
export function missedEvent(known, held, told, now) {
  if (known && held < known.seq) return known;
  return told > held ? { seq: told, at: now } : null;
}
