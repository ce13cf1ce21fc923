"""`manage.py record` announces only events of runs that somebody watches."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError

from runs.access.socket_counts import Holding, ProcessRow
from runs.launches.grants import HostGrant
from runs.live.exchange import DEAD_AFTER_S
from runs.protocol.reports import RunWatchers
from runs.recording import announcer, feed
from trainer.remote_hosts import rounds as rounds_module
from trainer.remote_hosts.rounds import Rounds

UNWATCHED, WATCHED = 1, 2
PORTAL = uuid.uuid4()
PATIENCE_S = 60.0


class Connection:
    async def end(self, code: int, reason: str) -> None: ...

    def look_for_commands(self) -> None: ...


def at_once(function: Callable[..., Any]) -> Callable[..., Any]:
    async def ask(*arguments: Any) -> Any:
        return function(*arguments)

    return ask


def portal_row(age_s: float = 0.0) -> ProcessRow:
    return ProcessRow(PORTAL, 1, age_s, Holding(watchers={WATCHED: RunWatchers()}))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, bool]]:
    """Return the announcements: group, number, and whether the event is in it."""
    found: list[tuple[str, int, bool]] = []
    monkeypatch.setattr(announcer, "send", lambda group, told: found.append((group, told["seq"], "event" in told)))
    monkeypatch.setattr(feed, "watched", feed.Watched())
    return found


def test_a_process_that_does_not_look_announces_all_events(sent: list[tuple[str, int, bool]]) -> None:
    feed.announce(UNWATCHED, [(1, "{}"), (2, "{}")])
    assert sent == [("run.1", 1, True), ("run.1", 2, True)]


def test_events_of_other_runs_are_held_back_until_a_viewer_joins(sent: list[tuple[str, int, bool]]) -> None:
    feed.watched.replace([WATCHED])
    feed.announce(UNWATCHED, [(1, "{}"), (2, "{}")])
    feed.announce(WATCHED, [(7, "{}")])
    assert sent == [("run.2", 7, True)]
    feed.watched.join(UNWATCHED)
    # The portal of the viewer reads from the database what was stored before it was announced here.
    assert sent[1:] == [("run.1", 2, False)]
    # The next read may not find the viewer yet.
    feed.watched.replace([WATCHED])
    feed.announce(UNWATCHED, [(3, "{}")])
    feed.watched.join(UNWATCHED)
    assert sent[2:] == [("run.1", 3, True)]


def test_it_looks_while_hosts_are_connected(sent: list[tuple[str, int, bool]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds_module, "reading", at_once)
    monkeypatch.setattr(rounds_module, "check_host_grants", lambda grants: dict.fromkeys(grants))
    monkeypatch.setattr(rounds_module, "runs_with_open_commands", lambda runs: set())
    monkeypatch.setattr(rounds_module.socket_counts, "read_others", lambda: [portal_row()])

    async def connected() -> None:
        rounds, connection = Rounds(), Connection()
        rounds.add(connection, HostGrant(1, UNWATCHED, 1))
        async with asyncio.timeout(PATIENCE_S):
            while WATCHED not in feed.watched:
                await asyncio.sleep(0.01)
        feed.announce(UNWATCHED, [(1, "{}")])
        assert sent == []
        rounds.remove(connection)
        feed.announce(UNWATCHED, [(2, "{}")])
        assert sent == [("run.1", 2, True)]

    asyncio.run(connected())


def test_after_an_outage_of_the_database_nobody_is_gone(
    sent: list[tuple[str, int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No portal could write its row meanwhile, and each needs a moment to write it again."""
    reads = 0

    def read_others() -> list[ProcessRow]:
        nonlocal reads
        reads += 1
        if reads == 1:
            raise OperationalError("the server closed the connection")
        return [portal_row(age_s=2 * DEAD_AFTER_S)]

    monkeypatch.setattr(rounds_module, "reading", at_once)
    monkeypatch.setattr(rounds_module, "ROUND_INTERVAL_S", 0.01)
    monkeypatch.setattr(rounds_module, "check_host_grants", lambda grants: dict.fromkeys(grants))
    monkeypatch.setattr(rounds_module, "runs_with_open_commands", lambda runs: set())
    monkeypatch.setattr(rounds_module.socket_counts, "read_others", read_others)

    async def connected() -> None:
        rounds, connection = Rounds(), Connection()
        rounds.add(connection, HostGrant(1, UNWATCHED, 1))
        async with asyncio.timeout(PATIENCE_S):
            while reads < 5:
                await asyncio.sleep(0.01)
        feed.announce(UNWATCHED, [(1, "{}")])
        feed.announce(WATCHED, [(1, "{}")])
        rounds.remove(connection)

    asyncio.run(connected())
    assert sent == [("run.2", 1, True)]
