"""The codes with which the portal closes the socket of a training host."""

from __future__ import annotations

from runs.access.grants import NO_SUCH_RUN, NOT_ALLOWED, NOT_AUTHENTICATED
from runs.protocol.messages import TOO_MANY, TOO_SLOW

FAILED, RESTART, TRY_AGAIN = 1011, 1012, 1013
MALFORMED = 4400
OTHER_VERSION = 4426

HOST_CLOSE_CODES: dict[int, str] = {
    1002: "the host violated the WebSocket protocol",
    1009: "a message of more than 16 MiB",
    FAILED: "the server failed to handle a message",
    RESTART: "the server restarts",
    TRY_AGAIN: "the database was unavailable in the handshake",
    MALFORMED: "a message that is not valid",
    NOT_AUTHENTICATED: "the token is missing, unknown, revoked or expired",
    NOT_ALLOWED: "the token may not report this run",
    NO_SUCH_RUN: "no such run or attempt",
    TOO_SLOW: "the host did not read",
    OTHER_VERSION: "the host has another version of the package or of the protocol",
    TOO_MANY: "too many connections of this user, or too many unknown tokens from this address",
}


class Refused(Exception):
    """A connection is closed with `code`. The text is for the person who reads the log of the host: 123 bytes fit."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
