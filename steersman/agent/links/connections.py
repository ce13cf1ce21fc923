"""What all connections to a portal have in common, and which of them a person wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from steersman.portal.requests import PortalError, Refused, refusal_of, unreachable

PATH = "/ws/hosts/"
PROTOCOL = "steersman.host.v1"
LINK_VARIABLE = "STEERSMAN_LINK"
AUTO, WEBSOCKET, HTTPS = LINKS = ("auto", "websocket", "https")
# Close codes by which a portal refuses this host: it violated the protocol, or the reason is a sentence.
REFUSING_CODES = frozenset({1002, 1009, *range(4400, 4500)}) - {4408}


class Connection(Protocol):
    """One connection for an attempt. All methods may block, and raise `PortalError` once the connection has ended."""

    def send(self, data: bytes) -> None: ...
    def recv(self) -> bytes: ...
    def close(self) -> None: ...


class HandshakeFailed(Exception):
    """Something at the address answered, but no WebSocket came about. `problem` is the error for a person.

    `is_certain`: a server or proxy refused the upgrade. Otherwise the portal may have been about to start.
    """

    def __init__(self, problem: PortalError, reason: str, *, is_certain: bool) -> None:
        super().__init__(reason)
        self.problem, self.is_certain = problem, is_certain


def wanted_link(environment: Mapping[str, str]) -> str:
    """Return which connection a person wants, one of `LINKS`. Raises `Refused` for another word."""
    wanted = environment.get(LINK_VARIABLE, "").strip().lower() or AUTO
    if wanted not in LINKS:
        raise Refused(f"{LINK_VARIABLE}: {wanted!r} is not a kind of connection; give {', '.join(LINKS)}.")
    return wanted


def why_closed(address: str, code: int, reason: str) -> PortalError:
    """Return the error for a connection that the portal closed with a code."""
    if code in REFUSING_CODES:
        return refusal_of(address, code, reason)
    return unreachable(address, ConnectionError(reason or f"closed with {code}"))
