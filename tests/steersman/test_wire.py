"""Messages between host side and record side arrive unchanged after encoding, and other bytes are refused."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.messages.disks import DiskSpace
from steersman.messages.ended import Concluded, Ended, Fenced, LastWords
from steersman.messages.link import FromHost, FromRecord
from steersman.messages.orders import EndProcess, Post, SignalRequest
from steersman.messages.reports import (
    Attach,
    Attached,
    ConsoleText,
    GpuDescription,
    Line,
    Position,
    Refused,
    Report,
    SetAside,
    Stall,
    Stored,
)
from steersman.records.kinds import CheckpointRecord, NoteRecord, PointRecord, TextRecord
from steersman.records.point_blocks import in_blocks, one_by_one
from steersman.records.posted import PostedCommand
from steersman.records.record import LARGEST_PAYLOAD_BYTES
from steersman.wire.codec import BadMessage, decode, encode
from steersman.wire.framing import LARGEST_MESSAGE_BYTES, Frames, TooLarge, framed

PLACE = Position(1, 200, 3)


def point(step: int, rank: int = 0, **values: float) -> PointRecord:
    return PointRecord(step=step, number=step + 7, time=1.7e9 + step, rank=rank, values=values or {"loss": 1.0 / step})


REPORT = Report(
    3,
    9,
    begin={0: Position(), 1: PLACE},
    end={0: PLACE, 1: PLACE},
    records=in_blocks(
        [
            point(1),
            point(2),
            point(3, accuracy=0.5, loss=0.1),
            NoteRecord(step=3, number=4, time=1.7e9, rank=1, text="naïve 注"),
            point(4, loss=math.inf),
            CheckpointRecord(
                step=4, path="checkpoints/1", epoch=1, name="x", size_bytes=1, sha256="0" * 64, metrics={}
            ),
            TextRecord(step=4, name="long", text="<secret>" * (LARGEST_PAYLOAD_BYTES // 8 + 1)),
        ]
    ),
    unreadable=2,
    console=ConsoleText(["a", "b"], 7, {0: 12, 1: 3}, ["10 %"]),
    system={"gpu/0/utilisation": 0.5, "host/cpu": None},
    lines=[Line("said", "warning")],
    stall=Stall(1.5, None),
    not_looking_s=9.0,
    gpus=(GpuDescription("H", "GPU-1", None, "1"),),
    removed_checkpoints=["checkpoints/0"],
    set_aside=[SetAside("a note", "why")],
    backlog_bytes=5,
    asked=[SignalRequest("i", "save_checkpoint", "SIGUSR1", {"name": "signal"})],
    posted=["i"],
    by_rank=[{0: point(1), 1: point(1, loss=2.0)}],
    disk=DiskSpace(5 << 30, 100 << 30),
)
ATTACHED = Attached(
    2, 5, {0: PLACE}, {0: 7}, {"loss": 9}, {"python": "3.11", "gpu_uuids": ["a"]}, {"checkpoints/1": True}, token="t"
)
COMMAND = PostedCommand(id="i", command="set_knob", arguments={"knob": "rate", "value": [1, None]}, expected_value=0.1)
MESSAGES: list[FromHost | FromRecord] = [
    Attach("t", ["i"]),
    ATTACHED,
    REPORT,
    Report(1, 1),
    Stored(8, {0: PLACE}, [Refused("records", 0, "why"), Refused("console", None, "why")], 3, 9),
    Post(COMMAND, 2.5),
    EndProcess("Ada"),
    Fenced("why", True),
    Ended(rank=1, code=-9, codes=[0, -9], last_words=LastWords(outcome="failed", error="e", traceback="t")),
    Concluded(state="failed", reason="e", exit_code=1, restart_in_s=5.0, used=1, allowed=2),
]


def plain(value: Any) -> str:
    """Return a message as JSON, in which lists and tuples are equal."""
    if not isinstance(value, Report):
        return json.dumps(msgspec.to_builtins(value, str_keys=True))
    shown = [f"{type(record).__name__}{record}" for record in one_by_one(value.records)]
    others = {name: getattr(value, name) for name in Report.__slots__ if name != "records"}
    return json.dumps([shown, msgspec.to_builtins(others, str_keys=True)])


def test_a_host_of_an_older_version_reports_without_its_disk() -> None:
    name, fields = msgspec.msgpack.decode(encode(REPORT))
    assert decode(msgspec.msgpack.encode((name, fields[:-1]))).disk is None


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
def test_a_message_arrives_as_it_was_sent(message: FromHost | FromRecord) -> None:
    assert plain(decode(encode(message))) == plain(message)


def test_points_cross_as_columns_and_take_little_more_than_their_numbers() -> None:
    points = [point(step, loss=1.0 / step, accuracy=0.5) for step in range(1, 1001)]
    assert len(encode(Report(1, 1, records=in_blocks(points)))) < 1000 * 8 * 5 + 500


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["a", "b"]), st.floats(allow_nan=False)), max_size=20))
def test_points_of_changing_names_and_ranks_stay_in_their_order(given_points: list[tuple[int, str, float]]) -> None:
    points = [point(step, rank, **{name: value}) for step, (rank, name, value) in enumerate(given_points, start=1)]
    assert one_by_one(decode(encode(Report(1, 1, records=in_blocks(points)))).records) == points


def block(**changed: Any) -> bytes:
    """Return a report whose one block of points has a wrong field."""
    fields = {
        "rank": 0, "names": ["loss"], "places": struct.pack("<2q", 1, 1), "times": struct.pack("<d", 1.7e9),
        "columns": [struct.pack("<d", 0.5)],
    } | changed  # fmt: skip
    packed = [["points", *fields.values()]]
    body = [1, 1, {}, {}, packed, 0, None, None, [], None, None, [], [], [], None, [], [], []]
    return msgspec.msgpack.encode(["report", body])


def test_a_block_as_it_should_be_is_a_point() -> None:
    (found,) = decode(block()).records
    assert found.records() == [PointRecord(step=1, number=1, time=1.7e9, values={"loss": 0.5})]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", encode(REPORT)[:-1],
        msgspec.msgpack.encode(["nonsense", {}]), msgspec.msgpack.encode(["report", []]),
        msgspec.msgpack.encode(["post", [b"[]", None]]), msgspec.msgpack.encode(["stored", {"number": "x"}]),
        block(times=b"123"), block(places=b""), block(times=b"", places=b"", columns=[b""]),
        block(columns=[]), block(columns=[b"1"]), block(names=["a", "b"]),
        block(times=struct.pack("<d", math.nan)),
    ],
)  # fmt: skip
def test_what_is_no_message_is_called_so(data: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(data)


def test_messages_on_a_stream_come_out_whole_whatever_pieces_they_come_in() -> None:
    sent = [b"", b"a", b"b" * 1000]
    stream = b"".join(map(framed, sent))
    frames = Frames()
    assert [whole for place in range(0, len(stream), 7) for whole in frames.take(stream[place : place + 7])] == sent
    with pytest.raises(TooLarge, match="the largest allowed has"):
        list(Frames().take((LARGEST_MESSAGE_BYTES + 1).to_bytes(4, "big")))
