// How long a page waits after too many connections (4429) or requests for tickets (429). Pure.

const FIRST_MS = 5000;
const LONGEST_MS = 60_000;
// After an open socket has lasted this long, the waiting times start from the first one again.
const CALM_MS = 60_000;

/**
 * Return the wait in ms before the next try. `refusals` counts the earlier ones; `random`, from 0 to 1, spreads pages
 * that were refused at the same moment. The wait is at least `leastMs`, which the portal requested.
 */
export function crowdedWait(refusals, random, leastMs = 0) {
  return Math.max(Math.min(FIRST_MS * 2 ** refusals, LONGEST_MS), leastMs) * (1 + random);
}

/**
 * Return the number of refusals that count for a page that was greeted at `greetedAt` (0: never) and is refused now.
 */
export function countedRefusals(refusals, greetedAt, now) {
  return greetedAt && now - greetedAt > CALM_MS ? 0 : refusals;
}
