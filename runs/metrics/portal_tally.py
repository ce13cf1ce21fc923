"""The counts of this web process, stored in a row that all web processes read.

The row is written some seconds after a change, and before this process answers Prometheus, so that the sum over all
rows never falls. If a process dies, its counts stay, but its levels no longer count. Old rows are summed into one. A
process whose row was summed, because it was suspended or had nothing to report, continues in a new row with the counts
since then.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import msgspec
from django.db import DatabaseError, transaction
from django.db.models.functions import Now

from runs.models import PortalReport
from runs.protocol.reports import PortalCounts, PortalLevels

logger = logging.getLogger(__name__)

REPORT_INTERVAL_S = 2.0
# A process with open sockets writes its row this often even if nothing changed.
REWRITE_AFTER_REPORTS = 3
DEAD_AFTER = timedelta(seconds=20)
SUM_UP_AFTER = timedelta(minutes=10)
SUMMED_UP = uuid.UUID(int=0)
LOCK_TIMEOUT_S = 1.0

Write = Callable[[], Awaitable[None]]


class PortalTally:
    """The counts of this process, and its row. The event loop changes `counts`; any thread may write the row."""

    def __init__(self) -> None:
        self.counts = PortalCounts()
        self.levels = PortalLevels()
        self._process = uuid.uuid4()
        # The counts of this process that were moved into the summed row.
        self._elsewhere = PortalCounts()
        self._written: PortalCounts | None = None
        self._lock = threading.Lock()

    def write(self) -> None:
        """Write the row. Raises `DatabaseError` if that fails."""
        # If two threads wrote in the wrong order, counts would fall.
        if not self._lock.acquire(timeout=LOCK_TIMEOUT_S):
            return
        try:
            own = self.counts.plus(self._elsewhere, -1)
            fields = {"counts": msgspec.to_builtins(own), "levels": msgspec.to_builtins(self.levels)}
            if self._written is not None and PortalReport.objects.filter(pk=self._process).update(
                written_at=Now(), **fields
            ):
                self._written = own
                return
            if self._written is not None:
                self._elsewhere = self._elsewhere.plus(self._written)
                self._process, self._written = uuid.uuid4(), None
                own = self.counts.plus(self._elsewhere, -1)
            PortalReport.objects.create(
                process=self._process, counts=msgspec.to_builtins(own), levels=fields["levels"], written_at=Now()
            )
            self._written = own
        finally:
            self._lock.release()

    def leave(self) -> None:
        """Write the row for the last time, when the process ends."""
        self.levels = PortalLevels()
        try:
            self.write()
        except DatabaseError as error:
            logger.debug("the last counts of this process were not written: %s", error)


tally = PortalTally()


class Reporter:
    """Writes the row of `tally` while there is something to report. Belongs to one event loop.

    `look` returns the current levels of the process; `write` writes the row on a thread.
    """

    def __init__(self, look: Callable[[], PortalLevels], write: Write) -> None:
        self._look = look
        self._write = write
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Start reporting, if it is not running, because something was or will be counted."""
        if self._task is None:
            self._task = asyncio.create_task(self._report_forever())

    async def _report_forever(self) -> None:
        told: tuple[PortalLevels, bytes] | None = None
        unwritten = 0
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            levels = self._look()
            now = levels, msgspec.json.encode(tally.counts)
            unwritten += 1
            if now == told and levels == PortalLevels(degraded=levels.degraded):
                # No viewer is left. The next count starts reporting again.
                self._task = None
                return
            if now == told and unwritten < REWRITE_AFTER_REPORTS:
                continue
            tally.levels = levels
            try:
                await self._write()
                told, unwritten = now, 0
            except Exception as error:  # an unavailable database may answer the next time
                logger.debug("the counts of this process could not be written: %s", error)


def read() -> tuple[PortalCounts, PortalLevels]:
    """Return the counts of all web processes, and the levels of those that are alive."""
    # The database's clock determines the ages, because all rows are written by it.
    living = PortalReport.objects.filter(written_at__gt=Now() - DEAD_AFTER)
    levels = [msgspec.convert(each, PortalLevels) for each in living.values_list("levels", flat=True)]
    # One statement, because rows could be summed between two.
    counts = _sum(PortalReport.objects.values_list("counts", flat=True))
    return counts, PortalLevels(
        *(sum(getattr(each, name) for each in levels) for name in PortalLevels.__struct_fields__)
    )


def sum_up() -> None:
    """Sum the counts of old rows into one, so that their number stays small."""
    if not PortalReport.objects.filter(written_at__lt=Now() - SUM_UP_AFTER).exclude(pk=SUMMED_UP).exists():
        return
    with transaction.atomic():
        PortalReport.objects.get_or_create(pk=SUMMED_UP, defaults={"written_at": Now()})
        total = PortalReport.objects.select_for_update().get(pk=SUMMED_UP)
        old = PortalReport.objects.filter(written_at__lt=Now() - SUM_UP_AFTER).exclude(pk=SUMMED_UP)
        rows = list(old.select_for_update())
        total.counts = msgspec.to_builtins(_sum([total.counts, *(row.counts for row in rows)]))
        total.save(update_fields=["counts"])
        PortalReport.objects.filter(pk__in=[row.pk for row in rows]).delete()


def _sum(rows: Iterable[object]) -> PortalCounts:
    total = PortalCounts()
    for row in rows:
        total = total.plus(msgspec.convert(row, PortalCounts))
    return total
