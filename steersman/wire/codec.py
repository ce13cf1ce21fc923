"""Encodes messages as bytes and decodes them: msgpack, with points in blocks of columns.

The bytes come from another process, perhaps of another version or of an attacker: invalid bytes raise `BadMessage`, and
no other exception.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

import msgspec

from steersman.messages.disks import DiskSpace
from steersman.messages.ended import Concluded, Ended, Fenced
from steersman.messages.link import FromHost, FromRecord
from steersman.messages.orders import EndProcess, Post, SignalRequest
from steersman.messages.reports import (
    Attach,
    Attached,
    ConsoleText,
    GpuDescription,
    Line,
    Position,
    Report,
    SetAside,
    Stall,
    Stored,
)
from steersman.records.posted import PostedCommand
from steersman.records.typed_json import Malformed
from steersman.records.typed_json import decode as from_json
from steersman.records.typed_json import encode as as_json
from steersman.wire.record_blocks import Block, Single, packed, packed_points, unpacked, unpacked_points

Item = TypeVar("Item")


class BadMessage(ValueError):
    """The bytes are not a valid message. The text gives the reason."""


class _Report(msgspec.Struct, array_like=True):
    """A `Report` in its encoded form: the same fields, some of them encoded as bytes."""

    session: int
    number: int
    begin: dict[int, Position]
    end: dict[int, Position]
    records: list[Block | Single]
    unreadable: int
    console: ConsoleText | None
    system: dict[str, float | None] | None
    lines: list[Line]
    stall: Stall | None
    not_looking_s: float | None
    gpus: tuple[GpuDescription, ...]
    removed_checkpoints: list[str]
    set_aside: list[SetAside]
    backlog_bytes: int | None
    asked: list[bytes]
    posted: list[str]
    by_rank: list[dict[int, Block]]
    # Hosts with an older version send none.
    disk: DiskSpace | None = None


class _Post(msgspec.Struct, array_like=True):
    """A `Post` in its encoded form: its command is the JSON object that is also used in a mailbox."""

    command: bytes
    expires_in_s: float | None
    made_at_s: float


# The type for each name. Do not change a name, because the other side may have another version.
KINDS: dict[str, type] = {
    "attach": Attach,
    "attached": Attached,
    "report": _Report,
    "stored": Stored,
    "post": _Post,
    "end_process": EndProcess,
    "fenced": Fenced,
    "ended": Ended,
    "concluded": Concluded,
}
_NAMES = {kind: name for name, kind in KINDS.items()} | {Report: "report", Post: "post"}
_encoder = msgspec.msgpack.Encoder()
_envelopes = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
_decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
    name: msgspec.msgpack.Decoder(kind) for name, kind in KINDS.items()
}


def encode(message: FromHost | FromRecord) -> bytes:
    """Return a message as bytes."""
    body: Any = message
    if isinstance(message, Report):
        body = _report_on_its_way(message)
    elif isinstance(message, Post):
        body = _Post(as_json(message.command), message.expires_in_s, message.made_at_s)
    return _encoder.encode((_NAMES[type(message)], body))


def decode(data: bytes) -> Any:
    """Return the message that the bytes encode. Raises `BadMessage`."""
    try:
        name, body = _envelopes.decode(data)
        decoder = _decoders.get(name)
        if decoder is None:
            raise BadMessage(f"there is no type of message called {name[:40]!r}")
        found = decoder.decode(body)
        if isinstance(found, _Report):
            return _arrived(found)
        if isinstance(found, _Post):
            return Post(from_json(PostedCommand, found.command), found.expires_in_s, found.made_at_s)
    except (msgspec.MsgspecError, Malformed, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(str(error)) from error
    return found


def _report_on_its_way(report: Report) -> _Report:
    values = {each.name: getattr(report, each.name) for each in fields(Report)}
    values |= {
        "records": packed(report.records),
        "asked": [as_json(asked) for asked in report.asked],
        "by_rank": packed_points(report.by_rank),
    }
    return _Report(**values)


def _arrived(found: _Report) -> Report:
    values = {each.name: getattr(found, each.name) for each in fields(Report)}
    values |= {
        "records": unpacked(found.records),
        "asked": [from_json(SignalRequest, asked) for asked in found.asked],
        "by_rank": unpacked_points(found.by_rank),
    }
    return Report(**values)
