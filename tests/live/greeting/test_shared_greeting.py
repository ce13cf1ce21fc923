"""One access to the database serves the greetings of a crowd."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.db import database_sync_to_async

from runs.access.roles import Viewer
from runs.commands.record import record
from runs.live import greeting
from runs.live.greeting import read_snapshot
from runs.live.hello import bounded_hello, find
from runs.models import Run
from runs.protocol.commands import parse_command
from runs.protocol.messages import Hello, Watchers, encode_message
from runs.recording.lifecycle import HEARTBEAT_INTERVAL_S
from tests.live.greeting.guests import VIEWERS, calls, gone, greeted, guest, share
from tests.support.sockets import TIMEOUT_S, answer, append, connect, greet, live, no_more, numbered, people

__all__ = ["calls", "people"]


def test_a_crowd_by_one_link_asks_the_database_once(people, layer, calls):
    async def check() -> None:
        run = await Run.objects.afirst()
        _, token = await database_sync_to_async(share)(run)
        sockets = [guest(run, token) for _ in range(VIEWERS)]
        hellos = await asyncio.gather(*(greeted(socket) for socket in sockets))
        assert all(hello["viewer"] == {"name": "", "role": "share", "may": []} for hello in hellos)
        # Visitors who connect while the guard queries wait for its next answer.
        assert calls.made.pop("check_grants") in (1, 2)
        assert calls.made == {"find": 1, "replay": 0, "nameless_frames": 0, "find_token": 1}
        await sync_to_async(append)(run, 1)
        assert [(await numbered(socket))["seq"] for socket in sockets] == [1] * VIEWERS
        await gone(*sockets)

    async_to_sync(check)()


def test_members_who_come_together_are_asked_about_together(people, layer, calls):
    async def check() -> None:
        run = await Run.objects.afirst()
        first, _ = await greet(run, people["operator"])
        asked, read = calls.made["check_grants"], calls.made["find"]
        sockets = [await connect(run, people[name]) for name in ("viewer", "operator") * 4]
        roles = [hello["viewer"]["role"] for hello in await asyncio.gather(*(greeted(socket) for socket in sockets))]
        assert roles == ["viewer", "operator"] * 4
        assert calls.made["check_grants"] - asked in (1, 2) and calls.made["find"] == read
        await gone(first, *sockets)

    async_to_sync(check)()


@live
async def test_an_older_snapshot_is_followed_by_what_came_since(people, one, two):
    first, hello = await greet(one, people["viewer"])
    for step in (1, 2, 3):
        await sync_to_async(append)(one, step)
    assert hello["seq"] == 0 and [(await numbered(first))["seq"] for _ in range(3)] == [1, 2, 3]
    second, hello = await greet(one, people["viewer"])
    assert hello["seq"] == 0 and not hello["replay"]
    assert [(await numbered(second))["seq"] for _ in range(3)] == [1, 2, 3]
    await sync_to_async(append)(one, 4)
    assert (await numbered(second))["seq"] == (await numbered(first))["seq"] == 4
    await no_more(second)
    await gone(first, second)


@live
async def test_no_snapshot_is_behind_what_the_viewer_holds(people, one, two):
    first, _ = await greet(one, people["viewer"])
    for step in (1, 2, 3):
        await sync_to_async(append)(one, step)
    assert [(await numbered(first))["seq"] for _ in range(3)] == [1, 2, 3]
    second, hello = await greet(one, people["viewer"], since=2)
    assert hello["seq"] == 3 and hello["replay"]
    assert (await numbered(second))["seq"] == 3
    await no_more(second)
    await gone(first, second)


@live
async def test_a_snapshot_that_has_grown_old_is_read_anew(people, one, two):
    first, _ = await greet(one, people["viewer"])
    await Run.objects.filter(pk=one.pk).aupdate(name="renamed")
    second, hello = await greet(one, people["viewer"])
    assert hello["run"]["name"] == "one"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greeting, "LONGEST_SNAPSHOT_AGE_S", 0)
        third, hello = await greet(one, people["viewer"])
    assert hello["run"]["name"] == "renamed"
    await gone(first, second, third)


def test_who_comes_back_is_told_what_it_missed_without_a_query(people, layer, calls):
    async def check() -> None:
        run = await Run.objects.afirst()
        first, _ = await greet(run, people["viewer"])
        for step in range(1, 6):
            await sync_to_async(append)(run, step)
        assert [(await numbered(first))["seq"] for _ in range(5)] == [1, 2, 3, 4, 5]
        for since in (1, 4, 5):
            socket, hello = await greet(run, people["viewer"], since=since)
            assert hello["replay"]
            assert [(await numbered(socket))["seq"] for _ in range(5 - since)] == list(range(since + 1, 6))
            await no_more(socket)
            await gone(socket)
        assert calls.made["replay"] == 0
        await gone(first)

    async_to_sync(check)()


def test_a_crowd_that_comes_back_to_a_new_server_reads_the_missed_events_once(people, layer, calls):
    async def check() -> None:
        run = await Run.objects.afirst()
        for step in range(1, 6):
            await sync_to_async(append)(run, step)
        sockets = [await connect(run, people["viewer"], since=2) for _ in range(VIEWERS)]
        hellos = await asyncio.gather(*(greeted(socket) for socket in sockets))
        assert all(hello["replay"] and hello["seq"] == 5 for hello in hellos)
        for socket in sockets:
            assert [(await numbered(socket))["seq"] for _ in range(3)] == [3, 4, 5]
        assert calls.made["replay"] == 1
        await gone(*sockets)

    async_to_sync(check)()


@live
async def test_who_misses_more_than_is_kept_loads_the_history_again(people, one, two):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greeting, "LARGEST_RING_EVENTS", 2)
        first, _ = await greet(one, people["viewer"])
        for step in (1, 2, 3, 4):
            await sync_to_async(append)(one, step)
        assert [(await numbered(first))["seq"] for _ in range(4)] == [1, 2, 3, 4]
        second, hello = await greet(one, people["viewer"], since=1)
        assert hello["seq"] == 4 and not hello["replay"]
        assert (await answer(second, "resync"))["seq"] == 4
        await no_more(second)
        await gone(first, second)


def test_guests_see_no_names_whoever_came_first(people, layer, calls):
    async def check() -> None:
        run = await Run.objects.afirst()
        operator = people["operator"]
        _, token = await database_sync_to_async(share)(run)
        member, hello = await greet(run, operator)
        stop = parse_command({"command": "stop"})
        await sync_to_async(record)(run.pk, stop, author_id=operator.pk, author_name="Olga Person")
        assert (await numbered(member))["author"] == "Olga Person"
        sockets = [guest(run, token, since=0) for _ in range(VIEWERS)]
        hellos = await asyncio.gather(*(greeted(socket) for socket in sockets))
        assert [command["author"] for hello in hellos for command in hello["run"]["commands"]] == ["operator"] * VIEWERS
        assert [(await numbered(socket))["author"] for socket in sockets] == ["operator"] * VIEWERS
        assert calls.made["nameless_frames"] == 1
        other, hello = await greet(run, operator, since=0)
        assert hello["run"]["commands"][0]["author"] == (await numbered(other))["author"] == "Olga Person"
        await gone(member, other, *sockets)

    async_to_sync(check)()


@live
async def test_one_who_leaves_takes_the_greeting_from_nobody(people, one, two):
    begun, may_go_on = threading.Event(), threading.Event()

    def slow(run_id: int) -> Any:
        begun.set()
        may_go_on.wait(TIMEOUT_S)
        return find(run_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greeting, "find", slow)
        sockets = [await connect(one, people["viewer"]) for _ in range(2)]
        for socket in sockets:
            assert (await socket.connect(timeout=TIMEOUT_S))[0]
        await asyncio.to_thread(begun.wait, TIMEOUT_S)
        sockets[0].stop(exceptions=False)
        may_go_on.set()
        assert (await sockets[1].receive_json_from(TIMEOUT_S))["kind"] == "hello"
        await gone(sockets[1])


@pytest.mark.django_db
def test_a_spliced_hello_is_what_the_whole_one_would_be(people):
    run = Run.objects.get(name="one")
    snapshot = read_snapshot(run.pk, for_guests=True)
    viewer = Viewer(user_id=1, name='Ada "the" Ünı', role="operator")
    watchers = Watchers(count=2, guests=1, names=[viewer.name])
    told = json.loads(snapshot.hello(viewer, replays=True, life="silent", link="live", watchers=watchers))
    parts = find(run.pk)
    whole = Hello(
        seq=parts.run.last_seq,
        replay=True,
        run=parts.snapshot,
        latest=parts.latest,
        viewer={"name": viewer.name, "role": viewer.role, "may": viewer.may},
        server_time=told["server_time"],
        heartbeat_interval_s=HEARTBEAT_INTERVAL_S,
        life="silent",
        link="live",
        watchers={"count": 2, "guests": 1, "names": [viewer.name]},
    )
    assert told == json.loads(encode_message(bounded_hello(whole)))
