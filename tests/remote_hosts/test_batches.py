"""Reports of several runs that wait are stored in one transaction; each that cannot be stored fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from runs.models import Run, StoredEvent
from runs.recording.lifecycle import Holder, open_attempt
from steersman.messages.reports import Attach, Attached, GpuDescription, Position, Report, Stored
from steersman.wire.codec import decode, encode
from tests.recording.test_reports import new_lease, steps_of
from tests.recording.test_sessions import Observer, points
from trainer.remote_hosts import batches
from trainer.remote_hosts.batches import Batches, answer_together
from trainer.remote_hosts.desk import Desk

pytestmark = pytest.mark.django_db(transaction=True)

GPU = GpuDescription("Tesla", "GPU-1", 16_000, "550")


class Host:
    """One connection, and what it has reported."""

    def __init__(self) -> None:
        self.lease = new_lease()
        self.observer = Observer()
        self.desk = Desk(self.lease, self.observer)
        self.attached: Attached = decode(self.desk.answer(encode(Attach("one")))[0])

    def report(self, number: int, **fields: Any) -> tuple[Desk, bytes]:
        return self.report_of(points(self.attached, number, [number], **fields))

    def report_of(self, report: Report) -> tuple[Desk, bytes]:
        return self.desk, encode(report)

    def stored_alone(self, number: int, **fields: Any) -> Stored:
        desk, data = self.report(number, **fields)
        found: Stored = decode(desk.answer(data)[0])
        return found


@pytest.fixture
def hosts() -> list[Host]:
    return [Host() for _ in range(4)]


def answers(messages: list[tuple[Desk, bytes]]) -> list[Stored | None]:
    return [None if found is None else decode(found[0]) for found in answer_together(messages)]


def test_they_share_one_transaction_and_each_is_seen_once(hosts: list[Host]) -> None:
    with CaptureQueriesContext(connection) as queries:
        found = answers([host.report(1) for host in hosts])
    assert sum(query["sql"].startswith("BEGIN") for query in queries) == 1
    assert [stored.number for stored in found if stored is not None] == [1, 1, 1, 1]
    for host in hosts:
        assert steps_of(host.lease) == [1] and host.observer.seen == [1]
        # Repeated, and in a batch: it changes nothing.
    assert answers([host.report(1) for host in hosts]) == [None] * 4
    assert [host.stored_alone(1).number for host in hosts] == [1, 1, 1, 1]
    assert [steps_of(host.lease) for host in hosts] == [[1]] * 4


def test_one_that_cannot_be_stored_takes_no_other_with_it(hosts: list[Host]) -> None:
    good, early, overtaken, gone = hosts
    unfit = Host()
    open_attempt(overtaken.lease.run_id, Holder("other", "boot", 2), overtaken.lease.number, command_line=[])
    Run.objects.filter(pk=gone.lease.run_id).delete()
    too_far = {0: Position(0, 100, (1 << 64) - 1)}
    messages = [
        unfit.report_of(Report(unfit.attached.session, 1, end=too_far)),
        early.report(3),
        overtaken.report(1),
        gone.report(1),
        (early.desk, b"\xff\x00garbage"),
        good.report(1),
    ]
    assert [stored is not None for stored in answers(messages)] == [False, False, False, False, False, True]
    assert steps_of(good.lease) == [1] and good.observer.seen == [1]
    assert early.stored_alone(3).number == 0
    assert overtaken.stored_alone(1).number == 1
    assert [steps_of(host.lease) for host in (early, overtaken, unfit)] == [[], [1], []]


def test_if_the_transaction_fails_each_is_stored_alone_and_completely(hosts: list[Host]) -> None:
    last = hosts[-1].lease

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "runs_journaloffset" in sql and last.attempt_id in params:
            raise OperationalError("disk I/O error")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        assert answers([host.report(1, gpus=(GPU,)) for host in hosts]) == [None] * 4
    assert all(steps_of(host.lease) == [] and host.observer.seen == [] for host in hosts)
    for host in hosts:
        assert host.stored_alone(1, gpus=(GPU,)).number == 1
        # Nothing of the failed transaction is taken for stored.
        kinds = StoredEvent.objects.filter(run_id=host.lease.run_id).exclude(kind="status").order_by("seq")
        assert list(kinds.values_list("kind", flat=True)) == ["metrics", "environment"]
        assert steps_of(host.lease) == [1] and host.observer.seen == [1]


class Answering:
    """Answers each message with itself, and keeps the messages that came together."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.together: list[list[bytes]] = []
        patch.setattr(batches, "storing", lambda function: self._storing(function))
        patch.setattr(batches, "answer_together", self._answer_together)

    def answer(self, data: bytes) -> list[bytes]:
        self.together.append([data])
        return [data]

    def _answer_together(self, messages: list[tuple[Desk, bytes]]) -> list[list[bytes] | None]:
        self.together.append([data for _, data in messages])
        return [[data] for _, data in messages]

    @staticmethod
    def _storing(function: Callable[..., Any]) -> Callable[..., Any]:
        async def ask(*arguments: Any) -> Any:
            return function(*arguments)

        return ask


@pytest.mark.parametrize("gather_s", [0.01, 3600.0])
def test_a_report_that_has_time_waits_for_others_but_not_for_long(
    monkeypatch: pytest.MonkeyPatch, gather_s: float
) -> None:
    monkeypatch.setattr(batches, "GATHER_S", gather_s)
    answering = Answering(monkeypatch)
    desk: Any = answering

    async def asked() -> list[list[bytes]]:
        taking = Batches()
        waiting = [asyncio.create_task(taking.answer(desk, name, has_time=True)) for name in (b"one", b"two")]
        if gather_s > 1:
            # These are taken along by one that has no time, or by as many as fit in a transaction.
            waiting.append(asyncio.create_task(taking.answer(desk, b"now")))
        async with asyncio.timeout(60):
            found = await asyncio.gather(*waiting)
            many = [taking.answer(desk, b"%d" % place, has_time=True) for place in range(batches.MOST_TOGETHER)]
            await asyncio.gather(*many)
        return found

    named = [b"one", b"two", b"now"] if gather_s > 1 else [b"one", b"two"]
    assert asyncio.run(asked()) == [[name] for name in named]
    assert answering.together == [named, [b"%d" % place for place in range(batches.MOST_TOGETHER)]]
