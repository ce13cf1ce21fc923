"""A database is restored to an older state, or replaced, under a watched run: viewers load the run anew."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.db.models import F

from runs.live import hub as hub_module
from runs.models import Run, StoredEvent
from runs.recording import feed
from tests.support.sockets import TIMEOUT_S, answer, append, greet, live, no_more, numbered, people

__all__ = ["people"]
FILE, ANOTHER_FILE = (1, 1), (1, 2)


async def go_back(run: Run, seq: int) -> None:
    await StoredEvent.objects.filter(run=run, seq__gt=seq).adelete()
    await Run.objects.filter(pk=run.pk).aupdate(last_seq=seq, replay_from=0, heartbeat=F("heartbeat") + 1)


@live
async def test_viewers_follow_on_from_lower_numbers(people, one, two):
    socket, _ = await greet(one, people["viewer"])
    for step in range(1, 6):
        await sync_to_async(append)(one, step)
        assert (await numbered(socket))["seq"] == step
    await go_back(one, 2)
    assert (await answer(socket, "resync"))["seq"] == 2
    await sync_to_async(append)(one, 3)
    assert (await numbered(socket))["seq"] == 3
    late, hello = await greet(one, people["operator"], since=2)
    assert hello["replay"] is True and (await numbered(late))["blocks"][0]["steps"] == [3]
    await no_more(socket)
    await socket.disconnect()
    await late.disconnect()


@live
async def test_viewers_load_another_file_whose_numbers_are_ahead(people, one, two):
    socket, _ = await greet(one, people["viewer"])
    other, _ = await greet(two, people["viewer"])
    await sync_to_async(append)(one, 1)
    assert (await numbered(socket))["seq"] == 1
    with pytest.MonkeyPatch.context() as patch:
        looks: list[tuple[int, int]] = []
        patch.setattr(hub_module, "database_file", lambda: looks.append(FILE) or FILE)
        async with asyncio.timeout(TIMEOUT_S):
            while len(looks) < 2:
                await asyncio.sleep(0.01)
        patch.setattr(hub_module, "database_file", lambda: ANOTHER_FILE)
        assert (await answer(socket, "resync"))["seq"] == 1
        assert (await answer(other, "resync"))["seq"] == 0
        await sync_to_async(append)(one, 2)
        assert (await numbered(socket))["seq"] == 2
    await socket.disconnect()
    await other.disconnect()


@live
async def test_who_comes_back_with_an_event_of_another_past_loads_it_anew(people, one, two):
    socket, _ = await greet(one, people["viewer"])
    await sync_to_async(append)(one, 1)
    await numbered(socket)
    await sync_to_async(append)(one, 2)
    held = await numbered(socket)
    assert held["seq"] == 2
    await socket.disconnect()
    known, hello = await greet(one, people["viewer"], since=2, at=held["at"])
    assert hello["replay"] is True
    await known.disconnect()
    # An older copy continued, so its numbers are ahead of the viewer's.
    await go_back(one, 1)
    for step in (7, 8, 9):
        await sync_to_async(append)(one, step)
    assert await at_of(one, 2) != held["at"]
    back, hello = await greet(one, people["viewer"], since=2, at=held["at"])
    assert hello["replay"] is False and (await numbered(back))["kind"] == "resync"
    again, hello = await greet(one, people["operator"], since=2, at=await at_of(one, 2))
    assert hello["replay"] is True and (await numbered(again))["seq"] == 3
    # Events announced while a viewer is connected need no query.
    newest = await sync_to_async(append)(one, 10)
    while (event := await numbered(again))["seq"] < newest:
        pass
    last, hello = await greet(one, people["viewer"], since=newest, at=event["at"])
    assert hello["replay"] is True
    other, hello = await greet(one, people["viewer"], since=newest, at=held["at"])
    assert hello["replay"] is False
    for each in (back, again, last, other):
        await each.disconnect()


async def at_of(run: Run, seq: int) -> str:
    return str(await sync_to_async(feed.time_of)(run.pk, seq))
