// Whether a page missed events that `pong` named. Pure.

/**
 * Return {seq, at}: an event that was announced but is missing, and since when; null if none is missing. `known` is the
 * result of the previous call, `held` the last applied event, `told` the newest event in a pong.
 */
export function missedEvent(known, held, told, now) {
  if (known && held < known.seq) return known;
  return told > held ? { seq: told, at: now } : null;
}
