"""What several processes share about sockets: which processes live, who watches, and that no place is lost."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db.models.functions import Now

from runs.access import socket_counts
from runs.live import hub as hub_module
from runs.live.exchange import DEAD_AFTER_S, Exchange
from runs.live.presence.audience import Audience, Watcher
from runs.live.presence.places import ALL
from runs.models import SocketCounts
from runs.protocol.messages import Watchers
from runs.protocol.reports import RunWatchers
from tests.live.greeting.guests import greeted, guest, share
from tests.support.sockets import TIMEOUT_S, answer, connect, greet, live, people

__all__ = ["people"]
ADA_AND_A_GUEST = {"7": {"members": {"1:": "Ada"}, "guests": 1}}


async def row_of_another(age_s: float = 0) -> SocketCounts:
    return await SocketCounts.objects.acreate(
        process=uuid.uuid4(),
        counts={ALL: 3},
        watchers=ADA_AND_A_GUEST,
        beat=1,
        written_at=Now() - timedelta(seconds=age_s),
    )


def count_of_others(exchange: Exchange) -> tuple[int, int]:
    """Return the places that other processes hold, and the watchers of run 7."""
    return exchange.places.others[ALL], exchange.audience.of(7).count


@live
async def test_a_process_is_dead_whose_row_stands_still(people, one, two):
    now = [1000.0]
    exchange = Exchange(clock=lambda: now[0])
    row = await row_of_another()
    await exchange._read()
    assert count_of_others(exchange) == (3, 2)
    now[0] += DEAD_AFTER_S - 1
    await exchange._read()
    await SocketCounts.objects.filter(pk=row.pk).aupdate(beat=2, written_at=Now())
    now[0] += 2
    await exchange._read()
    assert count_of_others(exchange) == (3, 2), "it was written meanwhile"
    now[0] += DEAD_AFTER_S + 1
    await exchange._read()
    assert count_of_others(exchange) == (0, 0) and not await SocketCounts.objects.aexists()


@live
async def test_a_process_that_died_before_its_row_was_seen_counts_no_more(people, one, two):
    await row_of_another(age_s=DEAD_AFTER_S + 1)
    exchange = Exchange()
    await exchange._read()
    assert count_of_others(exchange) == (0, 0) and not await SocketCounts.objects.aexists()


@live
async def test_nobody_is_dead_because_no_row_could_be_written(people, one, two):
    now = [1000.0]
    exchange = Exchange(clock=lambda: now[0])
    await row_of_another(age_s=2 * DEAD_AFTER_S)
    exchange._blind = True
    await exchange._read()
    assert count_of_others(exchange) == (3, 2)
    exchange._blind = False
    now[0] += DEAD_AFTER_S + 1
    await exchange._read()
    assert count_of_others(exchange) == (0, 0)


@live
async def test_a_handshake_that_is_cancelled_gives_its_places_back(people, one, two):
    hub = hub_module.current_hub()
    # The socket has its places and waits for the room of its run.
    async with hub._joining:
        socket = await connect(one, people["viewer"])
        await socket.connect(TIMEOUT_S)
        async with asyncio.timeout(TIMEOUT_S):
            while len(hub.exchange.places.own) < 2:
                await asyncio.sleep(0)
        socket.future.cancel()
        with suppress(asyncio.CancelledError):
            await socket.future
        assert not hub.exchange.places.own and not hub.exchange.audience.own()


@live
async def test_it_writes_what_it_holds_and_leaves_nothing(people, one, two):
    def held() -> list[dict[str, int]]:
        return list(SocketCounts.objects.values_list("counts", flat=True))

    first, _ = await greet(one, people["viewer"])
    second, _ = await greet(two, people["viewer"])
    key = f"user:{people['viewer'].pk}"
    exchange = hub_module.current_hub().exchange
    async with asyncio.timeout(TIMEOUT_S):
        while await sync_to_async(held)() != [{ALL: 2, key: 2}]:
            pass
        await first.disconnect()
        await second.disconnect()
        while exchange._exchanging is not None:
            await asyncio.sleep(0)
    assert await sync_to_async(held)() == [] and not exchange.audience.own()


@live
async def test_members_are_told_who_watches_and_guests_how_many(people, one, two):
    _, key = await sync_to_async(share)(one)
    member, hello = await greet(one, people["viewer"])
    assert hello["watchers"] == {"count": 1, "guests": 0, "names": ["viewer"]}
    other = guest(one, key)
    assert (await greeted(other))["watchers"] == {"count": 2, "guests": 1, "names": []}
    told = await answer(member, "watchers")
    assert told == {"kind": "watchers", "count": 2, "guests": 1, "names": ["viewer"]}
    # A person with two pages counts once; viewers of another run do not count.
    again, hello = await greet(one, people["viewer"])
    elsewhere, _ = await greet(two, people["operator"])
    assert hello["watchers"] == {"count": 2, "guests": 1, "names": ["viewer"]}
    await SocketCounts.objects.acreate(
        process=uuid.uuid4(), counts={ALL: 1}, beat=1, written_at=Now(),
        watchers={str(one.pk): {"members": {"99:": "Zoë"}, "guests": 0}},
    )  # fmt: skip
    told = await answer(again, "watchers")
    assert told == {"kind": "watchers", "count": 3, "guests": 1, "names": ["viewer", "Zoë"]}
    assert await answer(other, "watchers") == {"kind": "watchers", "count": 3, "guests": 1, "names": []}
    await other.disconnect()
    assert (await answer(again, "watchers"))["guests"] == 0
    for socket in (member, again, elsewhere):
        await socket.disconnect()


@pytest.mark.django_db
def test_what_is_written_is_what_the_others_read(monkeypatch: pytest.MonkeyPatch) -> None:
    held = socket_counts.Holding({ALL: 2}, {7: RunWatchers(members={"1:": "Ada"}, guests=1)})
    socket_counts.write(held)
    socket_counts.write(held)
    monkeypatch.setattr(socket_counts, "PROCESS", uuid.uuid4())
    (row,) = socket_counts.read_others()
    assert row.holding == held and abs(row.age_s) < TIMEOUT_S


def test_names_that_do_not_fit_are_counted() -> None:
    audience = Audience()
    for number in range(100):
        audience.add(1, Watcher(f"{number}:", f"{number:03}" + "名" * 50))
    told = audience.of(1)
    assert told.count == 100 and told.guests == 0
    assert 5 < len(told.names) < 20 and told.names == sorted(told.names)
    assert audience.of(2) == Watchers(count=0, guests=0, names=[])
