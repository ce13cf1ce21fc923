"""What is refused to sockets in memory, before the database is asked: failed handshakes, and what one viewer asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runs.access.addresses import client_address
from runs.access.grants import NO_SUCH_RUN, NOT_ALLOWED, NOT_AUTHENTICATED, Grant
from runs.access.limiter import Bucket, Limiter
from runs.access.roles import Viewer

TOO_MANY = 4429
# Only handshakes that fail count against an address: a lecture hall behind one router comes in as fast as it can. A
# page fails once or twice, where its ticket expired on the way, and many pages may do so at the same time.
FAILURES_BURST = 100
FAILURES_PER_S = 1.0
FAILURES = frozenset({NOT_AUTHENTICATED, NOT_ALLOWED, NO_SUCH_RUN})
# What a viewer sends is answered or stored, but for `ack`. A key that is held down, on a slider of a knob too, repeats
# up to 50 times a second. A page that was cut sends again what is unanswered, all at once.
ANSWERS_BURST = 1_000
ANSWERS_PER_S = 60.0

Found = tuple[Grant, Viewer] | int


class Handshakes:
    """Judges handshakes by the address they come from."""

    def __init__(self) -> None:
        self._failures = Limiter(FAILURES_BURST, FAILURES_PER_S)

    def are_refused(self, scope: dict[str, Any]) -> bool:
        """Tell whether so many handshakes from there failed that none is looked at now."""
        return not self._failures.has(address_of(scope))

    def judge(self, authenticate: Callable[[dict[str, Any], int], Found], scope: dict[str, Any], run_id: int) -> Found:
        """Authenticate a handshake and count it where it fails.

        Runs where `authenticate` runs and asks again there: thousands may have come before the first of them failed.
        """
        if self.are_refused(scope):
            return TOO_MANY
        found = authenticate(scope, run_id)
        if isinstance(found, int) and found in FAILURES:
            self._failures.take(address_of(scope))
        return found


def answers() -> Bucket:
    """Return what one socket may ask."""
    return Bucket(ANSWERS_BURST, ANSWERS_PER_S)


def address_of(scope: dict[str, Any]) -> str:
    """Return the address of a handshake."""
    headers = dict(scope.get("headers", []))
    forwarded_for = headers.get(b"x-forwarded-for", b"").decode("latin-1")
    return client_address(str((scope.get("client") or [""])[0]), forwarded_for)
