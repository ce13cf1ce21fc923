"""Typed messages of a viewer's socket that are not events: to one viewer, or to all viewers of one process.

Imports neither Django nor torch. `docs/protocol.md` describes every kind and every close code, and a test compares the
two.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from runs.protocol.events import Block

PROTOCOL = "steersman.v1"

# For a viewer that is too slow, and for one that exceeds a limit.
TOO_SLOW, TOO_MANY = 4408, 4429
CLOSE_CODES: dict[int, str] = {
    1002: "the viewer broke the WebSocket protocol",
    1007: "a text message was not UTF-8",
    1009: "a message of more than 64 KiB",
    1011: "the server failed to send the first message, or an event",
    1012: "the server restarts",
    1013: "the server could not redeem the ticket in time: reconnect with a new one",
    4400: "too many malformed messages",
    4401: "not authenticated: the ticket, session or token is missing, used, revoked or expired",
    4403: "not allowed",
    4404: "no such run",
    TOO_SLOW: "too slow: the viewer did not read its messages in time",
    4409: "the permissions of the viewer have changed: reconnect to receive them",
    TOO_MANY: "too many connections, failed handshakes or messages: wait, then reconnect",
}


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A message to a viewer without a number, which is never stored."""

    kind: ClassVar[str]


class Hello(Message, frozen=True, kw_only=True):
    """The first frame: the run as of `seq`. With `replay`, the missing events follow and charts are kept.

    `incomplete` lists the parts that do not fit into the frame; the history has them.
    """

    kind: ClassVar[str] = "hello"
    protocol: str = PROTOCOL
    seq: int
    replay: bool
    run: dict[str, Any]
    latest: dict[str, dict[str, Any]]
    viewer: dict[str, Any]
    server_time: float
    heartbeat_interval_s: float
    life: str
    link: str
    watchers: dict[str, Any]
    incomplete: list[str] = []


class Resync(Message, frozen=True, kw_only=True):
    """Events up to `seq` are not stored, too many or too large to send: load the history again."""

    kind: ClassVar[str] = "resync"
    seq: int


class Sight(Message, frozen=True, kw_only=True):
    """Confirms the viewer's selection: after event `seq`, the selected series are sent in full."""

    kind: ClassVar[str] = "sight"
    seq: int


class Newest(Message, frozen=True, kw_only=True):
    """The newest points, as of event `seq`, of series that the viewer has not selected, in blocks of one step each."""

    kind: ClassVar[str] = "newest"
    seq: int
    blocks: list[Block]


class Life(Message, frozen=True, kw_only=True):
    """The heartbeat status of the training changed: alive, unreachable (6 s) or silent (12 s without a heartbeat)."""

    kind: ClassVar[str] = "life"
    life: str
    silent_s: float


class Link(Message, frozen=True, kw_only=True):
    """How events reach this server.

    "live": through the channel layer. "late": through it, more than a second after they were stored. "database": from
    the database within 2 s, because the layer is unavailable. "unavailable": not at all, because the database does not
    answer. "unwritable": there are none, because the database answers but takes no changes.
    """

    kind: ClassVar[str] = "link"
    link: str


class Watchers(Message, frozen=True, kw_only=True):
    """The current watchers of the run across all web processes: numbers of members and guests, names of members.

    `names` has those that fit, and is empty for a guest.
    """

    kind: ClassVar[str] = "watchers"
    count: int
    guests: int
    names: list[str]

    def shown_to(self, *, is_guest: bool) -> Watchers:
        """Return the message for one viewer."""
        return Watchers(count=self.count, guests=self.guests, names=[]) if is_guest else self


class Pong(Message, frozen=True, kw_only=True):
    """The answer to a ping, with its content, and the newest event of the run that this server has received."""

    kind: ClassVar[str] = "pong"
    echo: Any = None
    server_time: float
    seq: int


class Error(Message, frozen=True, kw_only=True):
    """The viewer's message was invalid: why, and what to do. The socket stays open.

    With `again`, the database is busy or unavailable, and the same message may be sent again in a moment.
    """

    kind: ClassVar[str] = "error"
    error: str
    field: str = ""
    command_id: str = ""
    again: bool = False


MESSAGES: dict[str, type[Message]] = {
    message.kind: message for message in (Hello, Resync, Sight, Newest, Life, Link, Watchers, Pong, Error)
}


def encode_message(message: Message) -> str:
    """Return the text frame of a message without a number."""
    return msgspec.json.encode({"kind": message.kind} | msgspec.structs.asdict(message)).decode()
