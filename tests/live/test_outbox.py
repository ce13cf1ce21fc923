"""The messages of a viewer: the same bytes as for others of the same kind, each event once and in order."""

from __future__ import annotations

import asyncio
import functools
import json
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from runs.live import outbox
from runs.live import room as room_module
from runs.live.frames import Frame
from runs.live.outbox import Outbox
from runs.live.room import Room
from runs.protocol.messages import Link
from runs.protocol.wire_format import END_OF_BLOCK, WINDOW_BITS, deflated, text_frame


class Connection:
    """A fake socket: it accepts frames while `takes`, otherwise it reports that earlier bytes wait."""

    def __init__(self, *, compressed: bool = False) -> None:
        self.compressed = compressed
        self.window: bytes | None = None
        self.takes = True
        self.frames: list[bytes] = []
        self.woken = 0

    def send(self, frame: bytes) -> bool:
        if self.takes:
            self.frames.append(frame)
        return self.takes

    async def drained(self) -> None:
        assert self.takes

    def wake(self) -> None:
        self.woken += 1

    @property
    def seqs(self) -> list[int]:
        return [event["seq"] for frame in self.frames for event in events_of(frame)]


def events_of(frame: bytes) -> list[dict[str, Any]]:
    message = json.loads(payload_of(frame))
    return message if isinstance(message, list) else [message]


def payload_of(frame: bytes) -> bytes:
    length, start = frame[1], 2
    if length == 126:
        length, start = int.from_bytes(frame[2:4]), 4
    elif length == 127:
        length, start = int.from_bytes(frame[2:10]), 10
    assert len(frame) == start + length
    if not frame[0] & 0x40:
        return frame[start:]
    return zlib.decompressobj(-WINDOW_BITS).decompress(frame[start:] + END_OF_BLOCK)


def event(seq: int, kind: str = "log") -> Frame:
    return Frame(seq, json.dumps({"seq": seq, "kind": kind}, separators=(",", ":")))


def opened(connection: Connection, last_seq: int = 0, **options: Any) -> Outbox:
    box = Outbox()
    box.open(last_seq, connection, connection.wake, **options)
    return box


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 128, 65_535, 65_536, 70_000])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_frame_holds_its_message_whatever_its_length(length: int, compressed: bool) -> None:
    message = bytes(number % 251 for number in range(length))
    frame = text_frame(deflated(message) if compressed else message, compressed=compressed)
    assert payload_of(frame) == message


def test_a_viewer_who_waits_for_nothing_gets_each_event_at_once_and_once() -> None:
    connection = Connection()
    box = opened(connection, last_seq=2)
    for seq in (1, 2, 3, 3, 4):
        box.put(event(seq))
    assert connection.seqs == [3, 4] and connection.woken == 0


def test_bytes_are_made_once_for_all_viewers_of_a_kind() -> None:
    plain, compressed = [Connection() for _ in range(3)], [Connection(compressed=True) for _ in range(3)]
    frame = Frame(1, json.dumps({"seq": 1, "kind": "metrics", "values": [1.0] * 100}))
    for connection in plain + compressed:
        opened(connection).put(frame)
    assert len({id(connection.frames[0]) for connection in plain}) == 1
    assert len({id(connection.frames[0]) for connection in compressed}) == 1
    assert events_of(compressed[0].frames[0]) == events_of(plain[0].frames[0])
    assert len(compressed[0].frames[0]) < len(plain[0].frames[0]) / 2


def test_what_refers_to_the_frame_before_is_made_once_too() -> None:
    viewers = [Connection(compressed=True) for _ in range(3)]
    for connection in viewers:
        connection.window = b""
    boxes = [opened(connection) for connection in viewers]
    texts = [json.dumps({"seq": seq, "kind": "log", "values": list(range(200))}) for seq in (1, 2, 3)]
    frames = [Frame(seq, text) for seq, text in enumerate(texts, start=1)]
    for frame in frames[:2]:
        for box in boxes:
            box.put(frame)
    # The last viewer has received something else before.
    viewers[2].window = b""
    for box in boxes:
        box.put(frames[2])
    first, second, third = (list(map(len, connection.frames)) for connection in viewers)
    assert first == second and max(first[1:]) < first[0] / 4
    assert third[:2] == first[:2] and third[2] > third[0] - 10
    for place in range(3):
        assert viewers[0].frames[place] is viewers[1].frames[place]
    read = zlib.decompressobj(-WINDOW_BITS).decompress
    assert [read(frame[4 if frame[1] == 126 else 2 :] + END_OF_BLOCK) for frame in viewers[0].frames] == list(
        map(str.encode, texts)
    )


def test_a_small_message_in_between_is_not_compressed_and_changes_no_window() -> None:
    connection = Connection(compressed=True)
    connection.window = b""
    box = opened(connection)
    box.put(Frame(1, json.dumps({"seq": 1, "kind": "log", "values": list(range(200))})))
    window = connection.window
    box.put(event(2))
    assert window and connection.window is window and not connection.frames[1][0] & 0x40


def test_what_waits_comes_in_order_and_in_one_message_before_what_is_newer() -> None:
    connection = Connection()
    box = opened(connection)
    box.put(event(1))
    connection.takes = False
    box.put(event(2))
    connection.takes = True
    # The first event waits, so the others must not overtake it.
    for seq in (3, 4):
        box.put(event(seq))
    assert connection.seqs == [1] and connection.woken
    message = box.take()
    assert message is not None and [part.seq for part in message.parts] == [2, 3, 4]
    # The message is being written, so a new event waits behind it.
    box.put(event(5))
    assert connection.seqs == [1]
    assert (message := box.take()) is not None and message.seq == 5
    assert box.take() is None
    box.put(event(6))
    assert connection.seqs == [1, 6]


def test_events_that_came_during_the_greeting_follow_it_without_those_it_held() -> None:
    connection, box = Connection(), Outbox()
    for seq in (1, 2, 3):
        box.put(event(seq))
    box.open(2, connection, connection.wake)
    assert connection.woken == 1
    assert (message := box.take()) is not None and message.seq == 3 and not message.parts
    assert box.take() is None


def test_a_viewer_who_is_too_far_behind_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LARGEST_BACKLOG_FRAMES", 3)
    connection = Connection()
    connection.takes = False
    box = opened(connection)
    for seq in range(1, 6):
        box.put(event(seq))
    assert box.overflowed and box.take() is None
    connection.takes = True
    box.put(event(6))
    assert connection.frames == [], "a gap must not be hidden by a later event"


def test_guests_wait_for_a_frame_with_names_and_for_no_other() -> None:
    member, guest = Connection(), Connection()
    boxes = [opened(member), opened(guest, is_guest=True)]
    for box in boxes:
        box.put(event(1))
        box.put(event(2, "command"))
        box.put(event(3))
    assert member.seqs == [1, 2, 3] and guest.seqs == [1] and guest.woken
    message = boxes[1].take()
    assert message is not None and message.names_somebody and message.seq == 3


def run_in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module.Room, "_is_busy", lambda self: True)


def room_of(*connections: Connection, greeted: int = 0) -> Room:
    room = Room(run_id=1, last_seq=0, heartbeat=0, alive_at=0.0, live=True)
    room.outboxes.update(opened(connection, greeted) for connection in connections)
    return room


def deliver(room: Room, *seqs: int) -> None:
    for seq in seqs:
        room.deliver(seq, event(seq).text)


@run_in_loop
async def test_a_busy_room_gets_two_events_in_one_message(busy: None) -> None:
    one, other = Connection(), Connection()
    room = room_of(one, other)
    deliver(room, 1, 2, 3)
    assert [len(events_of(frame)) for frame in one.frames] == [2] and one.frames == other.frames
    # The third event waits for a fourth for at most `GATHER_S`.
    async with asyncio.timeout(10):
        while one.seqs != [1, 2, 3]:
            await asyncio.sleep(0)
    assert other.seqs == [1, 2, 3] and room.flushing is None


@run_in_loop
async def test_a_room_is_busy_where_viewers_times_events_per_second_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(room_module.time, "monotonic", lambda: now)
    for viewers, events_per_s, is_busy in [(200, 5, False), (200, 100, True), (1_000, 1, False), (1_000, 5, True)]:
        connections = [Connection() for _ in range(viewers)]
        room = room_of(*connections)
        for seq in range(1, 41):
            now += 1 / events_per_s
            deliver(room, seq)
        room.flush()
        last = connections[0].frames[-4:]
        assert [len(events_of(frame)) for frame in last] == ([2] * 4 if is_busy else [1] * 4), (viewers, events_per_s)


@run_in_loop
async def test_what_a_busy_room_is_told_does_not_overtake_an_event(busy: None) -> None:
    one, other = Connection(), Connection()
    room = room_of(one, other)
    deliver(room, 1)
    room.tell(Link(link="database"))
    kinds = [message["kind"] for frame in one.frames for message in events_of(frame)]
    assert kinds == ["log", "link"]


@run_in_loop
async def test_who_was_greeted_between_two_events_of_a_message_gets_the_second_alone(busy: None) -> None:
    one, other = Connection(), Connection()
    room = room_of(one, other)
    late = Connection()
    room.outboxes.add(opened(late, 1))
    deliver(room, 1, 2)
    assert one.seqs == [1, 2] and late.seqs == [2]


@run_in_loop
async def test_a_viewer_whose_frame_fails_costs_only_itself() -> None:
    class Broken(Connection):
        def send(self, frame: bytes) -> bool:
            raise ValueError("on purpose")

    broken, sound = Broken(), Connection()
    room = room_of(broken, sound)
    deliver(room, 1, 2)
    assert sound.seqs == [1, 2] and broken.woken
    assert [box.has_failed for box in room.outboxes].count(True) == 1


def test_what_a_greeting_replays_comes_first_and_counts_for_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LARGEST_BACKLOG_FRAMES", 2)
    connection, box = Connection(), Outbox()
    for seq in (4, 5):
        box.put(event(seq))
    box.open(0, connection, connection.wake, first=[event(seq) for seq in (1, 2, 3, 4)])
    assert connection.woken == 1 and not box.overflowed
    message = box.take()
    assert message is not None and [part.seq for part in message.parts] == [1, 2, 3, 4, 5]
    assert box.take() is None
    box.put(event(6))
    assert connection.seqs == [6]
