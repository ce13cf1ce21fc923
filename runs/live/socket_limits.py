"""Limits of sockets, checked in memory before the database is queried: handshakes, and messages of one viewer."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings

from runs.access.addresses import client_address
from runs.access.grants import NO_SUCH_RUN, NOT_ALLOWED, NOT_AUTHENTICATED
from runs.access.limiter import Bucket, Clock, Limiter
from runs.protocol.messages import TOO_MANY

# A page fails once or twice if its ticket expired on the way, and many pages may do so at the same time. Failures count
# against the address. With a ticket of ours, or a token that was valid before, they count against its holder, so that
# other clients behind the same router do not block the holder.
FAILURES_BURST = 100
FAILURES_PER_S = 1.0
FAILURES = frozenset({NOT_AUTHENTICATED, NOT_ALLOWED, NO_SUCH_RUN})
# Every handshake costs some milliseconds and queries, so clients that open and close sockets are limited too. A lecture
# hall behind one router connects as fast as it can, and again after each restart: all sockets that one address may hold
# can be opened three times at once, and three times more within `REFILL_S`. A share link has twice as many, so that one
# address does not use up its limit.
VISITS_PER_PLACE = {"user": 3, "address": 3, "token": 6}
FEWEST_VISITS = {"user": 300, "address": 3_000, "token": 6_000}
REFILL_S = 100.0
# Every message of a viewer except `ack` is answered or stored. A key that is held down, for example on a slider,
# repeats up to 50 times per second. A page that reconnects sends all unanswered messages again at once.
ANSWERS_BURST = 1_000
ANSWERS_PER_S = 60.0
# The waiting time in a refusal of a ticket: enough for many requests of the same holder or address.
TICKET_WAIT_S = 5


class Handshakes:
    """Counts the handshakes of each holder and address (`runs.live.handshake.Credential`). Safe to call from any
    thread.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._failures = Limiter(FAILURES_BURST, FAILURES_PER_S, clock=clock)
        self._visits = {kind: _visits(kind, clock) for kind in VISITS_PER_PLACE}

    def let_in(self, address: str, holder: str) -> bool:
        """Count a handshake; return whether it may continue.

        A person's ticket counts only for that person, a token also for its address.
        """
        if self.are_refused(holder or address):
            return False
        kind = holder.partition(":")[0]
        if kind == "user":
            return self._visits[kind].take(holder)
        return self._visits["address"].take(address) and (not holder or self._visits[kind].take(holder))

    def are_refused(self, source: str) -> bool:
        """Return whether too many handshakes of `source`, a holder or an address, failed to check another one now."""
        return not self._failures.has(source)

    def note_failure(self, source: str, code: int) -> int:
        """Count a handshake of `source` that failed with `code`; return the code to send."""
        if self.are_refused(source):
            return TOO_MANY
        if code in FAILURES:
            self._failures.take(source)
        return code


class TicketRate:
    """Counts the requests for tickets, with the same limits as handshakes. Safe to call from any thread.

    `kind` is "user" for a session, or "token"; `key` identifies the session or token. It counts for its address until
    it has been found valid. From then on it counts separately, whatever other clients of that address do.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._visits = {kind: _visits(kind, clock) for kind in VISITS_PER_PLACE}

    def let_in(self, address: str, kind: str, key: str) -> bool:
        """Count a request; return whether it may continue."""
        return self._visits[kind].take(key) if key in self._visits[kind] else self._visits["address"].take(address)

    def note_known(self, kind: str, key: str) -> None:
        """Record that a session or token is valid. If that was known, `let_in` has already counted it."""
        if key not in self._visits[kind]:
            self._visits[kind].take(key)


def _visits(kind: str, clock: Clock) -> Limiter:
    places = settings.STEERSMAN_SOCKETS_PER_USER if kind == "user" else settings.STEERSMAN_SOCKETS_PER_LINK
    burst = max(FEWEST_VISITS.get(kind, 0), VISITS_PER_PLACE[kind] * places)
    return Limiter(burst, burst / REFILL_S, clock=clock)


def answers() -> Bucket:
    """Return the limit of requests through one socket."""
    return Bucket(ANSWERS_BURST, ANSWERS_PER_S)


def address_of(scope: dict[str, Any]) -> str:
    """Return the client address of a handshake or another request."""
    headers = dict(scope.get("headers", []))
    forwarded_for = headers.get(b"x-forwarded-for", b"").decode("latin-1")
    return client_address(str((scope.get("client") or [""])[0]), forwarded_for)
