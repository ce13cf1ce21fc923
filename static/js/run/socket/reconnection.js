// The pause before a page reconnects, for the socket library. Pure except for random numbers.

// Pages that lose a server lose it at the same moment, so they reconnect spread over this time.
export const LONGEST_PAUSE_MS = 2000;
const SHORTEST_PAUSE_MS = 100;
// Many pages wait for their turn; an address that does not answer is tried again after this time.
const CONNECTION_TIMEOUT_MS = 15_000;

/** Return a pause; `chance` is a number from 0 to 1. */
export function pauseFor(chance) {
  return SHORTEST_PAUSE_MS + chance * (LONGEST_PAUSE_MS - SHORTEST_PAUSE_MS);
}

/** Return the library's options. It reads the pause before each attempt, and gets a different one each time. */
export function reconnectionOptions() {
  return {
    get minReconnectionDelay() {
      return pauseFor(Math.random());
    },
    maxReconnectionDelay: LONGEST_PAUSE_MS,
    reconnectionDelayGrowFactor: 1,
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    maxEnqueuedMessages: 0,
  };
}
