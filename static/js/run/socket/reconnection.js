// The time until a page reconnects, for the library of the socket. Pure except for random numbers.

// Pages that lose one server lose it in the same moment: they come back spread over this time.
export const LONGEST_PAUSE_MS = 2000;
const SHORTEST_PAUSE_MS = 100;
// A crowd waits for its turn; an address that does not answer at all is tried again after this.
const CONNECTION_TIMEOUT_MS = 15_000;

/** Return a pause; `chance` is a number from 0 up to 1. */
export function pauseFor(chance) {
  return SHORTEST_PAUSE_MS + chance * (LONGEST_PAUSE_MS - SHORTEST_PAUSE_MS);
}

/** Return the library's options. It reads the pause before each attempt, and gets another one each time. */
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
