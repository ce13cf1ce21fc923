"""Viewers with some series in sight: what they receive of events, and of the other series."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from runs.live import room as room_module
from runs.live.outbox import Outbox
from runs.live.room import MOST_SIGHTS, Room
from runs.protocol.event_parts import LARGEST_FRAME_BYTES
from runs.protocol.sight import MOST_IN_SIGHT
from tests.live.test_outbox import Connection, busy, events_of, opened, room_of, run_in_loop
from tests.support.sockets import answer, append, greet, live, numbered, people

__all__ = ["busy", "people"]


def metrics(seq: int, *blocks: dict[str, Any]) -> str:
    fields = {"attempt": 1, "step": seq, "last_point_at": "2026-01-02T00:00:00.000Z", "blocks": list(blocks)}
    return json.dumps({"seq": seq, "kind": "metrics", "at": "2026-01-02T00:00:00.000Z"} | fields, separators=(",", ":"))


def block(steps: list[int], *names: str, **more: Any) -> dict[str, Any]:
    columns = {name: [step + place / 8 for step in steps] for place, name in enumerate(names)}
    return {"steps": steps, "times": [float(step) for step in steps], "values": columns, "nonfinite": {}} | more


def log(seq: int) -> str:
    return json.dumps({"seq": seq, "kind": "log"}, separators=(",", ":"))


def received(connection: Connection) -> list[dict[str, Any]]:
    return [event for frame in connection.frames for event in events_of(frame)]


def names_of(event: dict[str, Any]) -> set[str]:
    return {name for one in event["blocks"] for name in one["values"]}


def looking(room: Room, connection: Connection, *names: str) -> Outbox:
    (box,) = [box for box in room.outboxes if box.wire is connection]
    room.look(box, frozenset(names))
    return box


async def told(connection: Connection, number: int) -> list[dict[str, Any]]:
    """Wait for `number` messages of newest points."""
    async with asyncio.timeout(60):
        while len(found := [event for event in received(connection) if event["kind"] == "newest"]) < number:
            await asyncio.sleep(0)
    return found


@run_in_loop
async def test_what_is_in_sight_comes_in_full_and_of_the_rest_the_newest_once_a_second() -> None:
    all_of_it, some = Connection(), Connection()
    room = room_of(all_of_it, some)
    room.deliver(1, metrics(1, block([1], "a", "b", "c")))
    looking(room, some, "a")
    odd = {"nonfinite": {"c": [[1, "nan"]]}, "float32": True, "float64": ["b"]}
    texts = [
        metrics(2, block([2, 3], "a", "b"), block([3], "c")),
        log(3),
        # Of two points in one event the later one is the newest, whatever their order.
        metrics(4, block([5], "d"), block([4], "d")),
        metrics(5, block([5, 6], "b", "c", **odd)),
    ]
    for seq, text in enumerate(texts, start=2):
        room.deliver(seq, text)
    first, answered, second, line, third, fourth = received(some)
    assert names_of(first) == {"a", "b", "c"} and answered == {"kind": "sight", "seq": 1}
    whole = [json.loads(text) for text in texts]
    assert second == whole[0] | {"blocks": [block([2, 3], "a")]} and line == whole[1]
    assert third == whole[2] | {"blocks": []} and fourth == whole[3] | {"blocks": []}
    (newest,) = await told(some, 1)
    points = {
        name: (one["steps"], column, one["nonfinite"].get(name), one.get("float32", False))
        for one in newest["blocks"]
        for name, column in one["values"].items()
    }
    assert newest["seq"] == 5 and points == {
        "b": ([6], [6.0], None, False),
        "c": ([6], [6.125], [[0, "nan"]], True),
        "d": ([5], [5.0], None, False),
    }
    # A viewer of all series received every event as it is stored.
    assert [event["kind"] for event in received(all_of_it)] == ["metrics", "metrics", "log", "metrics", "metrics"]
    assert received(all_of_it)[1:] == whole


@run_in_loop
async def test_frames_are_made_once_for_those_who_look_at_the_same() -> None:
    connections = [Connection(compressed=True) for _ in range(4)]
    room = room_of(*connections)
    for connection, names in zip(connections, ("ab", "ba", "ac"), strict=False):
        looking(room, connection, *names)
    names = [f"series/{number}" for number in range(40)]
    room.deliver(1, metrics(1, block([1], "a", *names)))
    room.deliver(2, log(2))
    same, equal, other, everything = ([id(frame) for frame in connection.frames[-2:]] for connection in connections)
    assert same == equal and same[0] != other[0] and same[0] != everything[0]
    assert same[1] == other[1] == everything[1], "what has no points is the same for all"


@run_in_loop
async def test_a_series_comes_into_sight_from_one_event_on_whatever_waits() -> None:
    slow = Connection()
    room = room_of(slow)
    box = looking(room, slow, "a")
    slow.takes = False
    room.deliver(1, metrics(1, block([1], "a", "b")))
    room.deliver(2, metrics(2, block([2], "a", "b")))
    looking(room, slow, "b")
    room.deliver(3, metrics(3, block([3], "a", "b")))
    room.deliver(4, metrics(4, block([4], "a", "b")))
    message = box.take()
    assert message is not None
    before, newest, answered, after = events_of(message.wire(compressed=False))
    assert (newest["kind"], newest["seq"], names_of(newest)) == ("newest", 2, {"b"})
    # Merged, as for every viewer who is behind.
    assert answered == {"kind": "sight", "seq": 2}
    assert (before["first_seq"], before["seq"], names_of(before)) == (1, 2, {"a"})
    assert (after["first_seq"], after["seq"], names_of(after)) == (3, 4, {"b"})


@run_in_loop
async def test_what_was_newest_of_a_series_is_told_before_it_comes_into_sight() -> None:
    connection = Connection()
    room = room_of(connection)
    looking(room, connection, "a")
    room.deliver(1, metrics(1, block([1], "a", "b", "c")))
    looking(room, connection, "a", "b")
    kinds = [(event["kind"], event["seq"]) for event in received(connection)]
    assert kinds == [("sight", 0), ("metrics", 1), ("newest", 1), ("sight", 1)]
    assert names_of(received(connection)[2]) == {"b"}
    (_, second) = await told(connection, 2)
    assert names_of(second) == {"c"}


@run_in_loop
async def test_two_events_in_one_message_of_a_busy_room_are_seen_so_too(busy: None) -> None:
    one, late = Connection(), Connection()
    room = room_of(one)
    looking(room, one, "a")
    room.outboxes.add(opened(late, 1))
    looking(room, late, "b")
    room.deliver(1, metrics(1, block([1], "a", "b")))
    room.deliver(2, metrics(2, block([2], "a", "b")))
    assert [(event["seq"], names_of(event)) for event in received(one)[1:]] == [(1, {"a"}), (2, {"a"})]
    assert len(one.frames) == 2
    assert [(event["seq"], names_of(event)) for event in received(late)[1:]] == [(2, {"b"})]


@run_in_loop
async def test_newest_points_of_thousands_of_series_fit_into_frames() -> None:
    connection = Connection()
    room = room_of(connection)
    looking(room, connection)
    names = [f'{number}/"\u5b57' + "x" * 150 for number in range(1500)]
    for place in range(0, 1500, 100):
        room.deliver(place // 100 + 1, metrics(place // 100 + 1, block([place], *names[place : place + 100])))
    newest = await told(connection, 2)
    assert set().union(*map(names_of, newest)) == set(names)
    assert max(map(len, connection.frames)) < LARGEST_FRAME_BYTES


@run_in_loop
async def test_choices_beyond_the_bound_get_one_that_includes_them_or_all() -> None:
    connections = [Connection() for _ in range(MOST_SIGHTS + 3)]
    room = room_of(*connections)
    for number, connection in enumerate(connections[:MOST_SIGHTS]):
        looking(room, connection, f"series/{number}", "common")
    within, beyond, equal = connections[MOST_SIGHTS:]
    assert looking(room, within, "common", "series/7").sight == frozenset({"series/7", "common"})
    assert looking(room, equal, "series/7").sight == frozenset({"series/7", "common"})
    assert looking(room, beyond, "series/1", "series/2").sight is None
    room.deliver(1, metrics(1, block([1], "series/1", "series/2", "series/7", "common")))
    assert names_of(received(beyond)[-1]) == {"series/1", "series/2", "series/7", "common"}


@run_in_loop
async def test_nothing_is_kept_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "NEWEST_EVERY_S", 0.0)
    connection = Connection()
    room = room_of(connection)
    box = looking(room, connection, "a")
    room.outboxes.discard(box)
    room.deliver(1, metrics(1, block([1], "a", "b")))
    async with asyncio.timeout(60):
        while room.has_sights:
            await asyncio.sleep(0)
    room.deliver(2, metrics(2, block([2], "a", "b")))
    assert not room.newest and room.telling is None


@live
async def test_a_viewer_says_what_it_looks_at_over_its_socket(people, one, two):
    await sync_to_async(append)(one, 1)
    socket, hello = await greet(one, people["viewer"])
    assert hello["seq"] == 1
    await socket.send_json_to({"kind": "sight", "series": ["other"]})
    assert await answer(socket, "sight") == {"kind": "sight", "seq": 1}
    await sync_to_async(append)(one, 2)
    assert (await numbered(socket))["blocks"] == []
    newest = await answer(socket, "newest")
    assert newest["seq"] == 2 and newest["blocks"][0]["values"] == {"loss": [1.0]}
    await socket.send_json_to({"kind": "sight", "series": None})
    assert await answer(socket, "sight") == {"kind": "sight", "seq": 2}
    await sync_to_async(append)(one, 3)
    assert names_of(await numbered(socket)) == {"loss"}
    # A viewer that reconnects receives everything that it missed in full.
    await socket.send_json_to({"kind": "sight", "series": []})
    await answer(socket, "sight")
    await socket.disconnect()
    socket, _ = await greet(one, people["viewer"], since=1)
    assert [names_of(await numbered(socket)) for _ in range(2)] == [{"loss"}] * 2
    wrong = ["loss", ["loss", 1], {"loss": 1}, ["x"] * (MOST_IN_SIGHT + 1)]
    for series in wrong:
        await socket.send_json_to({"kind": "sight", "series": series})
        assert (await answer(socket, "error"))["field"] == "series"
    for _ in range(10 - len(wrong)):
        await socket.send_json_to({"kind": "sight", "series": 1})
    while (await socket.receive_output(60))["type"] != "websocket.close":
        pass
