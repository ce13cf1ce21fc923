"""From records of the journal to rows and events: one transaction a tick.

What a tick brought and how far the journal was read are committed together, so that whatever is killed,
no point is lost and none comes twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from runs.models import Attempt, JournalOffset, Run
from runs.protocol.events import Event, LineUnfinished, LogLine, LogWritten, Metrics, SystemSampled
from runs.recording import feed
from runs.recording.database_errors import is_refusal
from runs.recording.lifecycle import Fenced, Lease, renew_lease
from runs.series import storage
from runs.series.laps import StepOrder, places_of
from steersman.agent.journals.merged import JournalsRead
from steersman.agent.machine.nvml import GpuDescription
from steersman.agent.machine.redactor import Redactor
from steersman.records.kinds import (
    EndRecord,
    EnvironmentRecord,
    EpochRecord,
    OutcomeRecord,
    PlanRecord,
    PointRecord,
)
from steersman.records.record import Record
from trainer.ingest.partial_store import (
    QUARANTINE_FILE,
    Part,
    describe,
    one_line,
    parts_of,
    put_into_quarantine,
    store_apart,
)
from trainer.ingest.point_events import (
    SeriesNames,
    last_point,
    metrics_events,
    newest_points,
    rolls_back,
    time_of,
)
from trainer.ingest.record_kinds import RecordStore, merge_environments
from trainer.ingest.store_timing import StoreTiming
from trainer.ingest.ticks import Tick

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class StoredProgress:
    """What the terminal shows, and how the worker said that it ended."""

    step: int = 0
    epoch: int = 0
    total_steps: int | None = None
    total_epochs: int | None = None
    latest: dict[str, float] = field(default_factory=dict)
    end: EndRecord | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    unreadable: int = 0


class Ingest:
    """Stores the ticks of one attempt, or what is left `of_the_dead`: that brings no run back to life."""

    def __init__(
        self, lease: Lease, folder: Path, redactor: Redactor, progress: StoredProgress, *, of_the_dead: bool = False
    ) -> None:
        self.lease = lease
        self.progress = progress
        self._of_the_dead = of_the_dead
        self._folder = folder
        self._redactor = redactor
        self._records = RecordStore(lease, folder, redactor)
        self._names = SeriesNames(redactor)
        # Where the series are; read where the first points come.
        self._order: StepOrder | None = None
        self._gpus: tuple[GpuDescription, ...] = ()
        self.timing = StoreTiming()

    def store(self, tick: Tick) -> None:
        """Commit a tick and announce it. Raises `runs.recording.lifecycle.Fenced` where another attempt holds the run.

        Where something in it cannot be stored, that alone is set aside: see `trainer.ingest.partial_store`.
        """
        aside: list[Record] = []
        began = time.monotonic()
        order = self._order
        try:
            with transaction.atomic():
                self._begin(tick)
                self._put(tick)
        except Exception as error:
            self._order = order
            if isinstance(error, Fenced) or not is_refusal(error):
                raise
            logger.warning("a tick cannot be stored whole (%s): storing its parts", one_line(error))
            aside = self._store_parts(tick)
        self.timing.note(time.monotonic() - began)
        self._note_progress(_without(tick.read.records if tick.read else [], aside))

    def _store_parts(self, tick: Tick) -> list[Record]:
        """Store all of a tick that can be, in one transaction; return the records that were set aside."""
        refused: list[tuple[Part, Exception]] = []
        order = self._order
        try:
            with transaction.atomic():
                self._begin(tick)
                for part in parts_of(tick):
                    refused += store_apart(part, self._put)
                for part, error in refused:
                    self._set_aside(part, error)
        except Exception:
            self._order = order
            raise
        return [record for part, _ in refused if part.read for record in part.read.records]

    def _set_aside(self, part: Part, error: Exception) -> None:
        """Keep what could not be stored in a file beside the journal, and say so."""
        reason = self._redactor.text(one_line(error))
        put_into_quarantine(self._folder, part, reason)
        Attempt.objects.filter(pk=self.lease.attempt_id).update(set_aside_records=F("set_aside_records") + 1)
        text = f"1 record could not be stored: {describe(part)}: {reason} It is kept in {QUARANTINE_FILE}."
        feed.append(self.lease.run_id, self._records.line(text, "error"))

    def set_aside(self, read: JournalsRead, error: str) -> None:
        """Go on behind records that a supervisor cannot live with, and keep them beside the journal."""
        with transaction.atomic():
            renew_lease(self.lease, recover=not self._of_the_dead)
            self._store_position(read)
            for record in read.records:
                self._set_aside(Tick(read=JournalsRead([record])), RuntimeError(error))

    def _begin(self, tick: Tick) -> None:
        """Prove the lease, and write how far journal and consoles are consumed by the tick."""
        progress = _progress_fields(tick.read.records if tick.read else [])
        # The heartbeat comes first: it takes the run's row lock and proves that the lease still holds.
        renew_lease(self.lease, recover=not self._of_the_dead, **progress, **tick.run)
        if progress:
            Attempt.objects.filter(pk=self.lease.attempt_id).update(last_step=progress["step"])
        if tick.read is not None:
            self._store_position(tick.read)
        if tick.console is not None:
            self._store_console_offsets(tick.console.offsets)

    def _put(self, tick: Tick) -> None:
        """Store what a tick, or a part of one, holds."""
        records = tick.read.records if tick.read else []
        order = self._order_before(records)
        first_lap = order.first_lap
        metrics: list[Metrics | SystemSampled] = [*metrics_events(self.lease.number, records, self._names, order)]
        if order.first_lap != first_lap:
            Attempt.objects.filter(pk=self.lease.attempt_id).update(first_lap=order.first_lap)
        events: list[Event] = [*metrics, *tick.events]
        events += [self._records.line(remark, "warning") for remark in order.remarks]
        fields: dict[str, Any] = {}
        for record in records:
            if not isinstance(record, PointRecord):
                events += self._records.store(record, fields)
        if tick.system is not None:
            moment = round(timezone.now().timestamp(), 3)
            # Of points alone: a text or an event may be of a step that is long past.
            steps = [record.step for record in records if isinstance(record, PointRecord)]
            step = steps[-1] if steps else self.progress.step
            sampled = SystemSampled(attempt=self.lease.number, step=step, time=moment, values=tick.system)
            events.append(sampled)
            metrics.append(sampled)
        if tick.gpus and tick.gpus != self._gpus:
            events.append(self._records.store_gpus(tick.gpus))
            self._gpus = tick.gpus
        events += self._console_events(tick)
        if metrics:
            storage.update_latest(self.lease.run_id, metrics)
        place = _step_after(records)
        if "step" in fields and place is not None:
            # Points behind a roll back count more than it.
            fields["step"] = place
            Attempt.objects.filter(pk=self.lease.attempt_id).update(last_step=place)
        if fields:
            Run.objects.filter(pk=self.lease.run_id).update(**fields)
        if events:
            feed.append(self.lease.run_id, *events)
        if self._order is not None:
            self._order = order

    def _order_before(self, records: Iterable[Record]) -> StepOrder:
        """Return where the series are before `records`: a copy, since what is refused is stored again in parts."""
        if self._order is None and any(isinstance(record, PointRecord) or rolls_back(record) for record in records):
            first_lap = Attempt.objects.values_list("first_lap", flat=True).get(pk=self.lease.attempt_id)
            self._order = StepOrder(places_of(self.lease.run_id, self.lease.number), first_lap)
        return self._order.copy() if self._order is not None else StepOrder()

    def _store_position(self, read: JournalsRead) -> None:
        for rank, position in read.positions.items():
            JournalOffset.objects.update_or_create(
                attempt_id=self.lease.attempt_id,
                rank=rank,
                segment=position.segment,
                defaults={"offset": position.offset, "next_number": position.next_number},
            )
        if read.unreadable:
            attempt = Attempt.objects.get(pk=self.lease.attempt_id)
            attempt.unreadable_records += read.unreadable
            attempt.save(update_fields=["unreadable_records"])
            self.progress.unreadable = attempt.unreadable_records

    def _console_events(self, tick: Tick) -> list[Event]:
        lines = [msgspec.structs.replace(line, text=self._redactor.text(line.text)) for line in tick.lines]
        skipped = 0
        if tick.console is not None:
            lines += [LogLine(text=self._redactor.text(line)) for line in tick.console.lines]
            skipped = tick.console.skipped_bytes
        if tick.read is not None and tick.read.unreadable:
            count = tick.read.unreadable
            text = f"{count} records of the journal are damaged and cannot be read; all others were taken."
            lines.append(LogLine(text=text, source="steersman", level="error"))
        events: list[Event] = []
        if lines or skipped:
            events.append(LogWritten(attempt=self.lease.number, lines=lines, skipped_bytes=skipped))
        if tick.console is not None and tick.console.unfinished is not None:
            unfinished = [self._redactor.text(line) for line in tick.console.unfinished]
            events.append(LineUnfinished(attempt=self.lease.number, lines=unfinished))
        return events

    def _store_console_offsets(self, offsets: Mapping[int, int]) -> None:
        attempt = Attempt.objects.get(pk=self.lease.attempt_id)
        attempt.console_offset = offsets.get(0, attempt.console_offset)
        attempt.console_offsets |= {str(rank): offset for rank, offset in offsets.items() if rank}
        attempt.save(update_fields=["console_offset", "console_offsets"])

    def _note_progress(self, records: Iterable[Record]) -> None:
        progress = self.progress
        held = list(records)
        # Of points of the same names the newest tells all.
        for point in newest_points(held):
            progress.latest.update(point.values)
        place = _step_after(held)
        if place is not None:
            progress.step = place
        for record in held:
            match record:
                case EpochRecord():
                    progress.epoch = record.epoch
                    progress.latest.update(record.values)
                case PlanRecord():
                    progress.total_steps, progress.total_epochs = record.total_steps, record.total_epochs
                case EnvironmentRecord():
                    progress.environment = merge_environments(progress.environment, record.environment, record.rank)
                case EndRecord():
                    progress.end = record


def _without(records: Sequence[Record], aside: Sequence[Record]) -> Iterable[Record]:
    left_out = {id(record) for record in aside}
    return (record for record in records if id(record) not in left_out)


def _progress_fields(records: Sequence[Record]) -> dict[str, Any]:
    last = last_point(records)
    return {} if last is None else {"step": last.step, "last_point_at": time_of(last)}


def _step_after(records: Sequence[Record]) -> int | None:
    """Return at which step a training was rolled back or logged last; None where it did neither."""
    for record in reversed(records):
        if isinstance(record, PointRecord):
            return record.step
        if isinstance(record, OutcomeRecord) and record.to_step is not None:
            return record.to_step
    return None
