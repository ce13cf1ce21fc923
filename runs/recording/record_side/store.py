"""The record side of one attempt: stores reports as rows and events, in one transaction per report.

The content of a report and the position in the journal are committed together, so that no point is lost or stored twice
if a process is killed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from runs.models import Attempt, Run
from runs.protocol.events import (
    Event,
    LineUnfinished,
    LogLine,
    LogWritten,
    Metrics,
    StallChanged,
    SystemSampled,
    iso,
)
from runs.recording import feed
from runs.recording.database_errors import is_refusal
from runs.recording.lifecycle import Fenced, Lease, renew_lease
from runs.recording.record_side import continuing
from runs.recording.record_side.continuing import NotContinued
from runs.recording.record_side.orders import BAD_REQUESTS, record_asked
from runs.recording.record_side.parts import parts_of, store_apart
from runs.recording.record_side.point_events import last_block, metrics_events, time_of
from runs.recording.record_side.record_kinds import RecordStore
from runs.recording.record_side.store_timing import StoreTiming
from runs.recording.state_alerts import note_disk
from runs.recording.status import announce_status
from runs.series import storage
from runs.series.laps import StepOrder, places_of
from steersman.messages.errors import one_line
from steersman.messages.looking import LOOKS_AGAIN, NOT_LOOKING
from steersman.messages.reports import Attached, GpuDescription, Refused, Report, Stall, Stored
from steersman.records.kinds import OutcomeRecord
from steersman.records.point_blocks import PointBlock, Stretch
from steersman.records.progress import between_roll_backs, rolls_back, step_after

logger = logging.getLogger(__name__)


class Unstorable(Exception):
    """Parts of a report cannot be stored; the transaction is rolled back, and the host side is asked to omit them."""

    def __init__(self, refused: Sequence[Refused]) -> None:
        super().__init__(f"{len(refused)} parts of a report cannot be stored")
        self.refused = refused


class RecordSide:
    """Stores the reports of one attempt. With `of_the_dead` they are leftovers, which do not set a lost run running."""

    def __init__(self, lease: Lease, *, of_the_dead: bool = False) -> None:
        self._lease = lease
        self._of_the_dead = of_the_dead
        self._is_history = False
        self._records = RecordStore(lease)
        # The positions of the series, read when the first points arrive.
        self._order: StepOrder | None = None
        self._gpus: tuple[GpuDescription, ...] = ()
        self._step = 0
        self._stalled_since: datetime | None = None
        self._is_stalled = False
        self._timing = StoreTiming()

    @property
    def step(self) -> int:
        """Return the newest stored step of the training."""
        return self._step

    @property
    def is_stalled(self) -> bool:
        """Whether the last event for viewers says that the training is stalled."""
        return self._is_stalled

    def keep_as_history(self) -> None:
        """Store all later reports as the history of an attempt that no longer holds the run.

        They change neither the commands nor the row of the run, except for the numbers of its events.
        """
        self._is_history = True

    def attach(self) -> Attached:
        """Begin a session: see `runs.recording.record_side.continuing.attach`."""
        attached = continuing.attach(self._lease, as_history=self._is_history)
        self._order = None
        self._step = attached.last_step
        self._is_stalled = attached.is_stalled
        return attached

    def report(self, report: Report) -> Stored:
        """Commit a report, once, and announce it; return what is stored then.

        A report that does not continue the stored ones changes nothing. Neither does one with a part that cannot be
        stored: the answer names that part. Raises `runs.recording.lifecycle.Fenced` if another attempt holds the run,
        or another supervisor this attempt, and one of `BAD_REQUESTS` for the invalid request of a signal.
        """
        began = time.monotonic()
        order = self._order
        try:
            self._store(report)
        except NotContinued:
            self._order = None
            return continuing.held(self._lease, report.session, report.number)
        except Unstorable as error:
            self._order = order
            return Stored(report.number - 1, report.begin, error.refused, report.session, report.number)
        except Exception:
            # It may have been committed or not, so the positions must be read again.
            self._order = None
            raise
        self.note(report, time.monotonic() - began)
        return Stored(report.number, report.end, session=report.session, answers=report.number)

    def add(self, report: Report) -> None:
        """Store a report as part of the caller's transaction. Call `note` after its commit, or `forget` if it failed.

        Raises whatever keeps the report from being stored as a whole; nothing of it is stored then.
        """
        with transaction.atomic():
            self._begin(report)
            self._put(report)
            self._records.forget_removed(report.removed_checkpoints)

    def note(self, report: Report, seconds: float) -> None:
        """Remember a report that was committed; its transaction took `seconds`."""
        self._timing.note(seconds)
        self._gpus = report.gpus or self._gpus
        if report.stall is not None and report.stall.stalled_s is not None:
            self._is_stalled = report.stall.stalled_s > 0
        step = step_after(report.records)
        self._step = self._step if step is None else step

    def forget(self) -> None:
        """Forget the positions of the series: they are those of a report that may not have been committed."""
        self._order = None

    def _store(self, report: Report) -> None:
        order = self._order
        try:
            self.add(report)
        except Exception as error:
            self._order = order
            if isinstance(error, (Fenced, NotContinued, *BAD_REQUESTS)) or not is_refusal(error):
                raise
            logger.warning(
                "run %d: attempt %d: some of its records cannot be stored (%s) and are left out; the others are stored",
                self._lease.run_id,
                self._lease.number,
                one_line(error),
            )
            self._store_parts(report)

    def _store_parts(self, report: Report) -> None:
        """Store a report part by part in one transaction. Raises `Unstorable` with the parts that cannot be stored."""
        refused: list[Refused] = []
        with transaction.atomic():
            self._begin(report)
            for part in parts_of(report):
                refused += store_apart(report, part, self._put)
            if refused:
                raise Unstorable(refused)
            self._records.forget_removed(report.removed_checkpoints)

    def _begin(self, report: Report) -> None:
        """Check the lease and that the report is the next one; store how far it reads journal and consoles, and the
        commands of signals, which come before the records of their outcomes.
        """
        last = last_block(report.records)
        step = step_after(report.records)
        run: dict[str, Any] = {} if last is None else {"last_point_at": time_of(last.times[-1])}
        run |= {} if step is None else {"step": step}
        attempt: dict[str, Any] = {} if step is None else {"last_step": step}
        if report.backlog_bytes is not None:
            run["supervisor_report"] = self._timing.report(report.backlog_bytes)
        if report.stall is not None:
            run["usual_step_s"] = report.stall.usual_step_s
            if report.stall.stalled_s is not None:
                since = timezone.now() - timedelta(seconds=report.stall.stalled_s) if report.stall.stalled_s else None
                self._stalled_since = run["stalled_since"] = since
        if report.not_looking_s is not None:
            since = timezone.now() - timedelta(seconds=report.not_looking_s) if report.not_looking_s else None
            run["not_looking_since"] = since
        if self._is_history:
            # Lock the row of the run first, as everywhere.
            list(Run.objects.select_for_update().filter(pk=self._lease.run_id).values_list("pk"))
        else:
            # The heartbeat comes first: it locks the row of the run, and checks the lease.
            renew_lease(self._lease, recover=not self._of_the_dead, **run)
        continuing.count_report(self._lease, report.session, report.number, **attempt)
        continuing.move_positions(self._lease, report.begin, report.end)
        if not self._is_history:
            for asked in report.asked:
                record_asked(self._lease, asked)
        if report.not_looking_s is not None and not self._is_history:
            announce_status(self._lease.run_id, remark=NOT_LOOKING if report.not_looking_s else LOOKS_AGAIN)
        if report.disk is not None and not self._is_history:
            note_disk(self._lease.run_id, self._lease.number, report.disk.free, report.disk.total)
        if report.unreadable or (report.console is not None and report.console.offsets):
            self._count_read(report)
        aside = self._records.count_set_aside(report.set_aside)
        if aside:
            feed.append(self._lease.run_id, *aside)

    def _count_read(self, report: Report) -> None:
        attempt = Attempt.objects.get(pk=self._lease.attempt_id)
        attempt.unreadable_records += report.unreadable
        offsets = report.console.offsets if report.console is not None else {}
        attempt.console_offset = offsets.get(0, attempt.console_offset)
        attempt.console_offsets |= {str(rank): offset for rank, offset in offsets.items() if rank}
        attempt.save(update_fields=["unreadable_records", "console_offset", "console_offsets"])

    def _put_as_history(self, report: Report) -> None:
        """Store a report, or a part of one, of an attempt that no longer holds the run."""
        order = self._order_before(report.records)
        metrics = list(metrics_events(self._lease.number, report.records, order))
        for each in metrics:
            # A known series keeps the newest point of the attempt that holds the run.
            storage.update_latest(self._lease.run_id, [each], only_new=True)
        events: list[Event] = [*metrics]
        for record in report.records:
            if not isinstance(record, PointBlock):
                events += self._records.store_as_history(record)
        events += self._console_events(report)
        if events:
            feed.append(self._lease.run_id, *events)
        if self._order is not None:
            self._order = order

    def _put(self, report: Report) -> None:
        """Store the content of a report, or of a part of one."""
        if self._is_history:
            self._put_as_history(report)
            return
        records = report.records
        order = self._order_before(records)
        metrics: list[Metrics | SystemSampled] = []
        events: list[Event] = []
        fields: dict[str, Any] = {}
        # Events of points have the step of the run, so those after a rollback follow the event of the rollback.
        for part in between_roll_backs(records):
            told = list(metrics_events(self._lease.number, part, order))
            metrics += told
            events += told
            for record in part:
                if isinstance(record, OutcomeRecord) and events:
                    # The event of a command is stored at once: those of earlier records must come before it.
                    feed.append(self._lease.run_id, *events)
                    events = []
                if not isinstance(record, PointBlock):
                    events += self._records.store(record, fields)
        events += self._stall_events(report.stall)
        events += [self._records.line(remark, "warning") for remark in order.remarks]
        if order.roll_backs:
            self._note_roll_backs(order)
        if report.system is not None:
            sampled = self._sampled(report.system, records)
            events.append(sampled)
            metrics.append(sampled)
        if report.gpus and report.gpus != self._gpus:
            events.append(self._records.store_gpus(report.gpus))
        events += self._console_events(report)
        if metrics:
            storage.update_latest(self._lease.run_id, metrics)
        if fields:
            Run.objects.filter(pk=self._lease.run_id).update(**fields)
        if events:
            feed.append(self._lease.run_id, *events)
        if self._order is not None:
            self._order = order

    def _note_roll_backs(self, order: StepOrder) -> None:
        attempt = Attempt.objects.only("roll_backs").get(pk=self._lease.attempt_id)
        attempt.first_lap, attempt.roll_backs = order.first_lap, [*attempt.roll_backs, *order.roll_backs]
        attempt.save(update_fields=["first_lap", "roll_backs"])

    def _order_before(self, records: Iterable[Stretch]) -> StepOrder:
        """Return the positions of the series before `records`: a copy, because refused records are stored again in
        parts.
        """
        if self._order is None and any(isinstance(record, PointBlock) or rolls_back(record) for record in records):
            first_lap = Attempt.objects.values_list("first_lap", flat=True).get(pk=self._lease.attempt_id)
            self._order = StepOrder(places_of(self._lease.run_id, self._lease.number), first_lap)
        return self._order.copy() if self._order is not None else StepOrder()

    def _stall_events(self, stall: Stall | None) -> list[Event]:
        if stall is None or stall.stalled_s is None:
            return []
        shown = iso(self._stalled_since) if self._stalled_since else None
        is_stalled = stall.stalled_s > 0
        usual_s = stall.usual_step_s
        return [StallChanged(attempt=self._lease.number, stalled=is_stalled, since=shown, usual_step_s=usual_s)]

    def _sampled(self, system: dict[str, float | None], records: Sequence[Stretch]) -> SystemSampled:
        moment = round(timezone.now().timestamp(), 3)
        # Texts and events do not count, because they may belong to a step long ago.
        step = step_after(records)
        step = self._step if step is None else step
        return SystemSampled(attempt=self._lease.number, step=step, time=moment, values=system)

    def _console_events(self, report: Report) -> list[Event]:
        lines = [LogLine(text=line.text, source="steersman", level=line.level) for line in report.lines]
        console = report.console
        if console is not None:
            lines += [LogLine(text=line) for line in console.lines]
        if report.unreadable:
            text = f"{report.unreadable} records of the journal are damaged and cannot be read; all others were stored."
            lines.append(LogLine(text=text, source="steersman", level="error"))
        events: list[Event] = []
        skipped = console.skipped_bytes if console is not None else 0
        if lines or skipped:
            events.append(LogWritten(attempt=self._lease.number, lines=lines, skipped_bytes=skipped))
        if console is not None and console.unfinished is not None:
            events.append(LineUnfinished(attempt=self._lease.number, lines=list(console.unfinished)))
        return events
