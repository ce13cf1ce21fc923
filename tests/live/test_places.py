"""Places of sockets in one process: who is dead by the reader's own clock, and that none is lost."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from datetime import timedelta

from asgiref.sync import sync_to_async
from django.utils import timezone

from runs.live import hub as hub_module
from runs.live.places import ALL, DEAD_AFTER_S, Places
from runs.models import SocketCounts
from tests.support.sockets import TIMEOUT_S, connect, greet, live, people

__all__ = ["people"]


@live
async def test_a_process_is_dead_whose_row_stands_still_whatever_its_clock_says(people, one, two):
    now = [1000.0]
    places = Places(clock=lambda: now[0])
    written_at = timezone.now() - timedelta(days=1)
    row = await SocketCounts.objects.acreate(process=uuid.uuid4(), counts={ALL: 3}, written_at=written_at)
    await places._read()
    assert places._others == {ALL: 3}, "its clock is wrong"
    now[0] += DEAD_AFTER_S - 1
    await places._read()
    row.written_at += timedelta(seconds=1)
    await row.asave()
    now[0] += 2
    await places._read()
    assert places._others == {ALL: 3}, "it was written meanwhile"
    now[0] += DEAD_AFTER_S + 1
    await places._read()
    assert not places._others and not await SocketCounts.objects.aexists()


@live
async def test_a_handshake_that_is_cancelled_gives_its_places_back(people, one, two):
    hub = hub_module.current_hub()
    # It has its places and waits for the room of its run.
    async with hub._joining:
        socket = await connect(one, people["viewer"])
        await socket.connect(TIMEOUT_S)
        async with asyncio.timeout(TIMEOUT_S):
            while len(hub.places._own) < 2:
                await asyncio.sleep(0)
        socket.future.cancel()
        with suppress(asyncio.CancelledError):
            await socket.future
        assert not hub.places._own


@live
async def test_it_writes_what_it_holds_and_leaves_nothing(people, one, two):
    def held() -> list[dict[str, int]]:
        return list(SocketCounts.objects.values_list("counts", flat=True))

    first, _ = await greet(one, people["viewer"])
    second, _ = await greet(two, people["viewer"])
    key = f"user:{people['viewer'].pk}"
    places = hub_module.current_hub().places
    async with asyncio.timeout(TIMEOUT_S):
        while await sync_to_async(held)() != [{ALL: 2, key: 2}]:
            pass
        await first.disconnect()
        await second.disconnect()
        while places._exchanging is not None:
            await asyncio.sleep(0)
    assert await sync_to_async(held)() == []
