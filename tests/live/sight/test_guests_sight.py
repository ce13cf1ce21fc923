"""Guests with some series in sight receive the same points as members, and still no names."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator

from runs.commands.record import record
from runs.live.room import Room
from runs.models import Run
from runs.protocol.commands import parse_command
from runs.protocol.events import Block
from runs.recording import feed
from tests.live.greeting.guests import greeted, guest, share
from tests.live.sight.test_sight import block as block_of
from tests.live.sight.test_sight import metrics, names_of
from tests.live.test_outbox import Connection, events_of, opened, room_of
from tests.support.sockets import answer, greet, live, numbered, people
from tests.support.stored_points import metrics_event

__all__ = ["people"]

NAME = "Olga Person"


def append(run: Run, step: int) -> int:
    values: dict[str, list[float | None]] = {name: [step / 4] for name in ("loss", "norm", "rate")}
    return feed.append(run.pk, metrics_event([Block(steps=[step], times=[float(step)], values=values)]))


def ask_for_checkpoint(run: Run, operator_id: int) -> int:
    record(run.pk, parse_command({"command": "save_checkpoint"}), author_id=operator_id, author_name=NAME)
    run.refresh_from_db()
    return run.last_seq


async def guest_of(run: Run) -> WebsocketCommunicator:
    _, token = await database_sync_to_async(share)(run)
    socket = guest(run, token)
    assert (await greeted(socket))["viewer"]["role"] == "share"
    return socket


async def until(socket: WebsocketCommunicator, kind: str, seq: int) -> list[dict[str, Any]]:
    """Return the messages up to one of this kind and number, without those that have no number."""
    found = [await numbered(socket)]
    while (found[-1]["kind"], found[-1]["seq"]) != (kind, seq):
        found.append(await numbered(socket))
    return found


@live
async def test_a_guest_gets_of_series_in_sight_what_a_member_gets_and_of_people_their_role(people, one, two):
    member, _ = await greet(one, people["operator"])
    watching = await guest_of(one)
    for socket in (member, watching):
        await socket.send_json_to({"kind": "sight", "series": ["loss", "unknown"]})
        await answer(socket, "sight")
    first = await sync_to_async(append)(one, 1)
    asked = await sync_to_async(ask_for_checkpoint)(one, people["operator"].pk)
    last = await sync_to_async(append)(one, 2)
    for socket, author in ((member, NAME), (watching, "operator")):
        # After the command, which waits until its guest form is read, and not before it.
        told = await until(socket, "newest", last)
        before, command, after = [message for message in told if message["kind"] != "newest"]
        assert [message["seq"] for message in (before, command, after)] == [first, asked, last]
        assert names_of(before) == names_of(after) == {"loss"}
        assert command["author"] == author
        assert [block["values"] for block in told[-1]["blocks"]] == [{"norm": [0.5], "rate": [0.5]}]
        assert (NAME in str(told)) == (socket is member)
    # All series again, and still no names.
    await watching.send_json_to({"kind": "sight", "series": None})
    await answer(watching, "sight")
    asked = await sync_to_async(ask_for_checkpoint)(one, people["operator"].pk)
    last = await sync_to_async(append)(one, 3)
    command, after = await until(watching, "metrics", last)
    assert (command["seq"], command["author"]) == (asked, "operator")
    assert names_of(after) == {"loss", "norm", "rate"}
    for socket in (member, watching):
        await socket.disconnect()


@live
async def test_a_message_of_several_events_names_nobody_to_a_guest_who_looks_at_some_series(people, one, two):
    """On the connection itself, in a room so busy that events share messages."""
    member, visitor = Connection(), Connection()
    room = room_of(member)
    room.outboxes.add(box := opened(visitor, is_guest=True))
    for each in room.outboxes:
        room.look(each, frozenset({"a"}))
    seq = await sync_to_async(ask_for_checkpoint)(one, people["operator"].pk)
    stored = await one.events.aget(seq=seq)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Room, "_is_busy", lambda self: True)
        room.deliver(seq - 1, metrics(seq - 1, block_of([1], "a", "b")))
        room.deliver(seq, stored.frame)
    ((points, command),) = [events_of(frame) for frame in member.frames[1:]]
    assert names_of(points) == {"a"} and command["author"] == NAME
    assert len(visitor.frames) == 1, "what names somebody waits for its reading"
    message = box.take()
    assert message is not None
    told = events_of((await message.for_guests()).wire(compressed=False))
    assert told == [points, command | {"author": "operator", "author_id": None}]
