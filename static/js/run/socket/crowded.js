// How long a page waits after too many connections (4429) or requests for tickets (429). Pure.

const FIRST_MS = 5000;
const LONGEST_MS = 60_000;
// After this time with an open socket, the waiting times begin from the first one again.
const CALM_MS = 60_000;

/**
 * Return the wait in ms before the next try. `refusals` counts those before this one; `random` is from 0 to 1 and
 * spreads pages that were refused in the same moment. It is no shorter than `leastMs`, which the portal asked for.
 */
export function crowdedWait(refusals, random, leastMs = 0) {
  return Math.max(Math.min(FIRST_MS * 2 ** refusals, LONGEST_MS), leastMs) * (1 + random);
}

/** Return how many refusals count for a page that was greeted at `greetedAt` (0: it was not) and is refused now. */
export function countedRefusals(refusals, greetedAt, now) {
  return greetedAt && now - greetedAt > CALM_MS ? 0 : refusals;
}
