"""What is refused to sockets in memory, before the database is asked: failed handshakes, and what one viewer asks."""

from __future__ import annotations

from typing import Any

from runs.access.addresses import client_address
from runs.access.grants import NO_SUCH_RUN, NOT_ALLOWED, NOT_AUTHENTICATED
from runs.access.limiter import Bucket, Limiter
from runs.protocol.events import TOO_MANY

# Only handshakes that fail count: a lecture hall behind one router comes in as fast as it can. A page fails once or
# twice, where its ticket expired on the way, and many pages may do so at the same time. They count against the address,
# and those that present a ticket of ours, or a token that was good before, against its holder: a stranger behind the
# same router takes nothing from them.
FAILURES_BURST = 100
FAILURES_PER_S = 1.0
FAILURES = frozenset({NOT_AUTHENTICATED, NOT_ALLOWED, NO_SUCH_RUN})
# What a viewer sends is answered or stored, but for `ack`. A key that is held down, on a slider of a knob too, repeats
# up to 50 times a second. A page that was cut sends again what is unanswered, all at once.
ANSWERS_BURST = 1_000
ANSWERS_PER_S = 60.0


class Handshakes:
    """Counts handshakes that failed, by their source (`runs.live.handshake.Credential`). Any thread may ask."""

    def __init__(self) -> None:
        self._failures = Limiter(FAILURES_BURST, FAILURES_PER_S)

    def are_refused(self, source: str) -> bool:
        """Tell whether so many handshakes of `source` failed that none is looked at now."""
        return not self._failures.has(source)

    def note_failure(self, source: str, code: int) -> int:
        """Count a handshake of `source` that failed with `code`; return the code that it is told."""
        if self.are_refused(source):
            return TOO_MANY
        if code in FAILURES:
            self._failures.take(source)
        return code


def answers() -> Bucket:
    """Return what one socket may ask."""
    return Bucket(ANSWERS_BURST, ANSWERS_PER_S)


def address_of(scope: dict[str, Any]) -> str:
    """Return the address that a handshake, or another request, comes from."""
    headers = dict(scope.get("headers", []))
    forwarded_for = headers.get(b"x-forwarded-for", b"").decode("latin-1")
    return client_address(str((scope.get("client") or [""])[0]), forwarded_for)
