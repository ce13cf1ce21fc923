"""Metrics that wait for a viewer who is behind arrive as one event with the same content as the single events."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from runs.live import frames as live_frames
from runs.live.frames import Frame, together
from runs.live.outbox import Outbox
from runs.protocol.event_parts import LARGEST_EVENT_BYTES, LARGEST_FRAME_BYTES
from runs.protocol.events import Block, Event, LogLine, LogWritten, Metrics, encode_event
from runs.protocol.merged_metrics import merged
from runs.series.float32 import with_few_digits
from runs.series.storage import collect
from tests.live.test_outbox import Connection, opened
from tests.support.stored_points import float32, metrics_event
from tests.support.watcher import separated

AT = datetime(2026, 1, 1, tzinfo=UTC)
NAME_SETS = (("loss",), ("loss", "rate"), ("rate", "loss"), ("norm/1", "norm/2", "norm/3"), ("模型",))


def stored(seq: int, event: Event) -> str:
    return encode_event(event, seq, AT)


def block(chance: random.Random, names: tuple[str, ...], first: int, count: int) -> Block:
    steps = [first + index for index in range(count)]
    as_logged = chance.choice((float, float32))
    columns: dict[str, list[float | None]] = {name: [as_logged(chance.random()) for _ in steps] for name in names}
    nonfinite = {}
    if chance.random() < 0.3:
        place, name = chance.randrange(count), chance.choice(names)
        columns[name][place] = None
        nonfinite[name] = [(place, chance.choice(("nan", "inf", "-inf")))]
    whole = Block(
        steps=steps,
        times=[1e9 + step for step in steps],
        values=columns,
        nonfinite=nonfinite,
        laps={names[0]: chance.randint(1, 2)} if chance.random() < 0.3 else msgspec.UNSET,
    )
    return with_few_digits(whole)


def story(chance: random.Random, length: int = 30) -> list[str]:
    """Return frames of a run's metrics: of several attempts, now and then with one series in several blocks."""
    found, attempt, step = [], 1, 0
    for seq in range(1, length + 1):
        attempt += chance.random() < 0.1
        blocks = []
        for names in chance.sample(NAME_SETS, chance.randint(1, 3)):
            count = chance.randint(1, 4)
            blocks.append(block(chance, names, step, count))
            step += count
        found.append(stored(seq, metrics_event(blocks, attempt)))
    return found


def one_by_one(frames: list[str]) -> list[dict[str, Any]]:
    """Return the events in the frames, with the blocks of each in a canonical order."""
    found = [event for frame in frames for event in separated(json.loads(frame))]
    for event in found:
        event["blocks"].sort(key=lambda block: list(block["values"]))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_merged_event_holds_every_point_of_every_event(seed: int) -> None:
    frames = story(random.Random(seed))
    found = list(merged(frames))
    assert sum(count for count, _ in found) == len(frames) and len(found) < len(frames) / 2
    assert sum(len(frame) for _, frame in found) < sum(map(len, frames))
    told = [frame for _, frame in found]
    assert [event["seq"] for event in one_by_one(told)] == list(range(1, len(frames) + 1))
    for name in ("attempt", "blocks"):
        assert [event[name] for event in one_by_one(told)] == [event[name] for event in one_by_one(frames)]
    before, after = collect(frames), collect(told)
    assert {key: (columns.steps, list(map(repr, columns.values))) for key, columns in after.items()} == {
        key: (columns.steps, list(map(repr, columns.values))) for key, columns in before.items()
    }


def test_neighbours_alone_are_merged() -> None:
    # Another attempt begins with the third event, and one is missing before the last.
    frames = [points(seq, attempt=attempt).text for seq, attempt in ((1, 1), (2, 1), (3, 2), (4, 2), (6, 2))]
    found = [(count, json.loads(frame)) for count, frame in merged(frames)]
    told = [(count, event.get("first_seq"), event["seq"], event["step"]) for count, event in found]
    assert told == [(2, 1, 2, 2), (2, 3, 4, 4), (1, None, 6, 6)]
    assert found[0][1]["blocks"][0]["seqs"] == [1, 2]


def test_what_would_become_larger_stays_apart() -> None:
    steps = list(range(1000))
    long = metrics_event([Block(steps=steps, times=[float(step) for step in steps], values={"a": [0.5] * 1000})])
    frames = [stored(seq, long) for seq in (100_000, 100_001)]
    assert list(merged(frames)) == [(1, frame) for frame in frames]


def points(seq: int, names: int = 16, attempt: int = 1) -> Frame:
    values: dict[str, list[float | None]] = {f"layers/{number}/norm": [seq / (number + 1)] for number in range(names)}
    one = Block(steps=[seq], times=[float(seq)], values=values)
    return Frame(seq, stored(seq, metrics_event([one], attempt)))


def line(seq: int) -> Frame:
    return Frame(seq, stored(seq, LogWritten(attempt=1, lines=[LogLine(text="x")])))


def behind(frames: list[Frame], connection: Connection | None = None) -> Outbox:
    """Return the outbox of a viewer for whom all these frames wait."""
    connection = connection or Connection()
    connection.takes = False
    box = opened(connection)
    for frame in frames:
        box.put(frame)
    return box


def test_other_events_keep_their_place_between_merged_ones() -> None:
    box = behind([points(1), points(2), line(3), points(4), points(5), points(6), line(7), points(8)])
    message = box.take()
    assert message is not None and box.take() is None and box.last_seq == 8
    told = [(event["kind"], event.get("first_seq"), event["seq"]) for event in json.loads(message.text)]
    assert told == [("metrics", 1, 2), ("log", None, 3), ("metrics", 4, 6), ("log", None, 7), ("metrics", None, 8)]
    assert (message.first_seq, message.seq) == (1, 8)


def test_metrics_alone_are_one_event_and_no_array() -> None:
    message = behind([points(seq) for seq in range(1, 11)]).take()
    assert message is not None and not message.parts
    event = json.loads(message.text)
    assert (event["first_seq"], event["seq"], event["step"]) == (1, 10, 10)
    apart = sum(points(seq).size for seq in range(1, 11))
    assert message.size < apart / 2


def test_who_waits_for_one_event_gets_it_as_it_was_stored() -> None:
    frame = points(1)
    assert behind([frame]).take() is frame


def test_viewers_at_the_same_place_share_the_message() -> None:
    frames = [points(seq) for seq in range(1, 6)]
    one, other, later = behind(frames), behind(frames), behind(frames[1:])
    message = one.take()
    assert message is not None and other.take() is message
    assert later.take() is not message


def test_few_messages_are_kept() -> None:
    together.cache_clear()
    for start in range(3 * live_frames.KEPT_TOGETHER):
        together((points(start + 1), points(start + 2)))
    assert together.cache_info().currsize == live_frames.KEPT_TOGETHER


def test_no_message_is_larger_than_a_frame_may_be_and_none_is_lost() -> None:
    chance = random.Random(1)
    frames = [points(seq, chance.choice((1, 16, 600))) for seq in range(1, 200)]
    box = behind(frames)
    told: list[str] = []
    while (message := box.take()) is not None:
        assert message.size <= LARGEST_EVENT_BYTES < LARGEST_FRAME_BYTES
        told.append(message.text)
    found = [event for text in told for one in _events(text) for event in separated(one)]
    assert [event["seq"] for event in found] == list(range(1, 200))
    assert [event["blocks"] for event in found] == [json.loads(frame.text)["blocks"] for frame in frames]


def test_what_a_greeting_replays_is_merged_with_what_came_meanwhile() -> None:
    connection, box = Connection(), Outbox()
    frames = [points(seq) for seq in range(1, 8)]
    for frame in frames[3:]:
        box.put(frame)
    box.open(0, connection, connection.wake, first=frames[:5])
    message = box.take()
    assert message is not None and box.take() is None
    assert (message.first_seq, message.seq) == (1, 7)
    assert [event["seq"] for event in separated(json.loads(message.text))] == list(range(1, 8))


def _events(text: str) -> list[dict[str, Any]]:
    message = json.loads(text)
    return message if isinstance(message, list) else [message]


def test_a_kind_is_told_by_the_head_of_a_frame() -> None:
    """A line of the console may quote an event."""
    quoted = Frame(2, stored(2, LogWritten(attempt=1, lines=[LogLine(text=f'"kind":"{Metrics.kind}"')])))
    message = behind([points(1), quoted, points(3)]).take()
    assert message is not None and [event["seq"] for event in json.loads(message.text)] == [1, 2, 3]
