"""Stores the reports of several training hosts that wait at the same time in one transaction.

Each report has a savepoint of its own: one that cannot be stored takes no other with it, and is answered alone after
the others. If the transaction as a whole fails, each report is answered alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import connection, transaction

from runs.live.database_reads import storing
from runs.models import Run
from steersman.messages.errors import one_line
from steersman.messages.reports import Report
from steersman.wire.codec import BadMessage, decode
from trainer.remote_hosts.desk import Desk

logger = logging.getLogger(__name__)

# A viewer waits for the whole transaction, and so do other writers on SQLite.
MOST_TOGETHER = 32
MOST_BYTES_TOGETHER = 1 << 20
# A report of a run that nobody watches waits this long for others to share a transaction with.
GATHER_S = 0.05
# SQLite takes one writer at a time: a second transaction would only wait for the first one.
LANES_OF_SQLITE, LANES = 1, 3


@dataclass(eq=False, slots=True)
class Waiting:
    """A message that waits. The answers are None if it has to be answered alone."""

    desk: Desk
    data: bytes
    answers: asyncio.Future[list[bytes] | None] = field(default_factory=asyncio.Future)


class Batches:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._gathering: asyncio.TimerHandle | None = None
        self._most_lanes = LANES_OF_SQLITE if connection.vendor == "sqlite" else LANES

    async def answer(self, desk: Desk, data: bytes, *, has_time: bool = False) -> list[bytes]:
        """Return the answers to a message of a host: see `Desk.answer`. One that `has_time` may wait for others."""
        waiting = Waiting(desk, data)
        self._waiting.append(waiting)
        if not has_time or len(self._waiting) >= MOST_TOGETHER:
            self._begin()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._begin)
        answers = await waiting.answers
        return await storing(desk.answer)(data) if answers is None else answers

    def _begin(self) -> None:
        """Begin to answer what waits, unless enough lanes do."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._waiting and len(self._lanes) < self._most_lanes:
            lane = asyncio.create_task(self._answer_waiting())
            # Otherwise nothing refers to a running task.
            self._lanes.add(lane)

    async def _answer_waiting(self) -> None:
        """Answer what waits, until nothing waits."""
        while self._waiting:
            together = self._take()
            try:
                if len(together) == 1:
                    found: list[list[bytes] | None] = [await storing(together[0].desk.answer)(together[0].data)]
                else:
                    found = await storing(answer_together)([(each.desk, each.data) for each in together])
            except Exception as error:  # it belongs to the connection whose message was handled
                for each in together:
                    if not each.answers.done():
                        each.answers.set_exception(error)
                continue
            for each, answers in zip(together, found, strict=True):
                if not each.answers.done():
                    each.answers.set_result(answers)
        # Not by a callback: a message that arrives before it would find a lane that answers nothing more.
        lane = asyncio.current_task()
        assert lane is not None
        self._lanes.discard(lane)

    def _take(self) -> list[Waiting]:
        taken = [self._waiting.popleft()]
        size = len(taken[0].data)
        while self._waiting and len(taken) < MOST_TOGETHER and size < MOST_BYTES_TOGETHER:
            taken.append(self._waiting.popleft())
            size += len(taken[-1].data)
        return taken


def answer_together(messages: Sequence[tuple[Desk, bytes]]) -> list[list[bytes] | None]:
    """Store the reports among messages in one transaction; return the answers, None for what is not stored."""
    reports = {place: report for place, (_, data) in enumerate(messages) if (report := _report_in(data)) is not None}
    nothing: list[list[bytes] | None] = [None] * len(messages)
    if len(reports) < 2:
        return nothing
    seconds: dict[int, float] = {}
    try:
        with transaction.atomic():
            free = _free_runs({messages[place][0].run_id for place in reports})
            for place, report in reports.items():
                desk, began = messages[place][0], time.monotonic()
                if desk.run_id in free and desk.add(report):
                    seconds[place] = time.monotonic() - began
    except Exception as error:  # any exception: it returns when the report that causes it is answered alone
        logger.debug(
            "storing %d reports in one transaction failed (%s): storing them one at a time",
            len(reports),
            one_line(error),
        )
        for place in reports:
            messages[place][0].forget()
        return nothing
    return [
        messages[place][0].added(reports[place], seconds[place]) if place in seconds else None
        for place in range(len(messages))
    ]


def _report_in(data: bytes) -> Report | None:
    try:
        message = decode(data)
    except BadMessage:
        return None
    return message if isinstance(message, Report) else None


def _free_runs(run_ids: set[int]) -> set[int]:
    """Return the runs whose rows nobody else has locked, and lock them: the others must not wait for that writer."""
    if not connection.features.has_select_for_update_skip_locked:
        return run_ids
    rows = Run.objects.select_for_update(skip_locked=True).filter(pk__in=run_ids)
    return set(rows.values_list("pk", flat=True))
