"""While a SQLite file takes no writes, missing heartbeats say nothing about runs, hosts and agents."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from runs.live.room import Room
from runs.models import Agent, Host, Run
from runs.recording import liveness
from runs.recording.lifecycle import SILENT_AFTER_S, UNREACHABLE_AFTER_S
from runs.recording.liveness import MOST_EXCUSED_S, OVERDUE_S, WriteWatch
from runs.statements.write_probe import takes_writes
from trainer.control import lease


class Clock:
    """Replaces `time` in a module; `sleep` takes no time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(liveness, "time", clock)
    monkeypatch.setattr(lease, "time", clock)
    return clock


def watch(monkeypatch: pytest.MonkeyPatch, answers: list[bool]) -> WriteWatch:
    """Use a watch whose probe returns the last of `answers`, wherever silence is judged."""
    watch = WriteWatch(lambda: answers[-1])
    for module in (liveness, lease):
        monkeypatch.setattr(module, "write_watch", watch)
    return watch


def room(alive_at: float) -> Room:
    return Room(run_id=1, last_seq=0, heartbeat=5, alive_at=alive_at, live=True)


def polled(room: Room, seconds: int, takes: bool, since: float) -> list[str]:
    """Judge a room without new heartbeats once a second; return its states."""
    found = []
    for second in range(1, seconds + 1):
        room.judge_life(5, True, since + second, 1.0, takes)
        found.append(room.life)
    return found


@contextmanager
def locked(name: str) -> Iterator[None]:
    with closing(sqlite3.connect(name, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.django_db(transaction=True)
def test_it_probes_whether_another_process_has_locked_the_file() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite locks the whole database")
    assert takes_writes()
    with locked(connection.settings_dict["NAME"]):
        assert not takes_writes()
    assert takes_writes()


def test_nobody_becomes_unreachable_while_the_database_takes_no_writes_and_a_dead_training_does_afterwards() -> None:
    watched = room(100.0)
    assert polled(watched, 2, True, 100.0) == ["alive"] * 2
    assert polled(watched, 60, False, 102.0) == ["alive"] * 60
    after = polled(watched, 20, True, 162.0)
    # Its owner has a while to store a heartbeat.
    assert after[: int(UNREACHABLE_AFTER_S - OVERDUE_S) - 1] == ["alive"] * (int(UNREACHABLE_AFTER_S - OVERDUE_S) - 1)
    assert after[-1] == "silent"


def test_a_training_that_was_unreachable_before_stays_unreachable() -> None:
    watched = room(100.0)
    polled(watched, 7, True, 100.0)
    assert watched.life == "unreachable"
    assert polled(watched, 30, False, 107.0) == ["unreachable"] * 30
    watched.judge_life(6, True, 138.0, 1.0, False)
    assert watched.life == "alive"


def test_only_an_overdue_heartbeat_is_a_reason_to_look() -> None:
    watched = room(100.0)
    assert not watched.is_overdue(5, True, 100.0 + OVERDUE_S)
    assert watched.is_overdue(5, True, 101.0 + OVERDUE_S)
    assert not watched.is_overdue(6, True, 200.0) and not watched.is_overdue(5, False, 200.0)


def test_runs_hosts_and_agents_are_not_judged_during_the_outage_and_shortly_after_it(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    answers = [True]
    watch(monkeypatch, answers)
    now = timezone.now()
    old = now - timedelta(seconds=SILENT_AFTER_S + 1)

    def judged(at: Any = old) -> list[bool]:
        clock.now += 1
        run = Run(pk=1, state="running", attempt=1, heartbeat_at=at)
        return [
            liveness.silent(run, now),
            not liveness.host_is_living(Host(name="a", heartbeat_at=at), now),
            not liveness.agent_is_living(Agent(heartbeat_at=at), now),
            liveness.heartbeat_age_s(run, now) is not None,
        ]

    assert judged() == [True] * 4
    answers.append(False)
    assert judged() == [False] * 4
    # Dead long before.
    assert judged(now - timedelta(seconds=MOST_EXCUSED_S + 60)) == [True] * 4
    answers.append(True)
    assert judged() == [False] * 4
    clock.now += UNREACHABLE_AFTER_S
    assert judged() == [True] * 4
    assert not liveness.agent_is_living(Agent(heartbeat_at=now, has_left=True), now)


def test_a_run_is_not_taken_over_from_an_owner_that_cannot_store_its_heartbeats(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    answers = [False]
    watch(monkeypatch, answers)
    began = clock.now

    class Rows:
        @staticmethod
        def get(pk: int) -> int:
            """The owner stores its next heartbeat a second after an outage of 30 s."""
            if clock.now > began + 30:
                answers.append(True)
            return 8 if clock.now > began + 31 else 7

    def values_list(name: str, flat: bool) -> type[Rows]:
        return Rows

    monkeypatch.setattr(lease, "Run", SimpleNamespace(objects=SimpleNamespace(values_list=values_list)))
    held: Any = SimpleNamespace(pk=1, heartbeat=7)
    calm: Any = SimpleNamespace(stops=0)
    assert lease._sends_heartbeats(held, calm)
    assert clock.now > began + 31
