"""From records of the journal to rows and events: one transaction a tick.

What a tick brought and how far the journal was read are committed together, so that whatever is killed,
no point is lost and none comes twice.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from runs.models import Attempt, Checkpoint, Command, CommandState, EpochMetric, JournalOffset, Run, RunState
from runs.protocol.commands import Extend
from runs.protocol.events import (
    CheckpointSaved,
    EpochDone,
    Event,
    KnobsChanged,
    LogLine,
    LogWritten,
    StatusChanged,
    SystemSampled,
    TextLogged,
    name_nonfinite,
)
from runs.recording import feed
from runs.recording.database_errors import is_refusal
from runs.recording.lifecycle import Fenced, Lease, complete_command, note_pause, renew_lease
from runs.series import storage
from steersman.agent.journals.merged import JournalsRead
from steersman.agent.machine.redactor import Redactor
from steersman.files import journal
from steersman.files.checkpoint import is_whole
from steersman.files.journal import Record
from trainer.ingest.partial_store import (
    QUARANTINE_FILE,
    Part,
    describe,
    one_line,
    parts_of,
    put_into_quarantine,
    store_apart,
)
from trainer.ingest.point_events import blocks_as_events, points
from trainer.ingest.ticks import Tick

logger = logging.getLogger(__name__)

PLAN_FIELDS = ("total_epochs", "total_steps", "steps_per_epoch")
BEST_METRICS = ("validation_accuracy", "validation_loss")


@dataclass(slots=True)
class StoredProgress:
    """What the terminal shows, and how the worker said that it ended."""

    step: int = 0
    epoch: int = 0
    total_steps: int | None = None
    total_epochs: int | None = None
    latest: dict[str, float] = field(default_factory=dict)
    end: dict[str, Any] | None = None
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

    def store(self, tick: Tick) -> None:
        """Commit a tick and announce it. Raises `runs.recording.lifecycle.Fenced` where another attempt holds the run.

        Where something in it cannot be stored, that alone is set aside: see `trainer.ingest.partial_store`.
        """
        aside: list[Record] = []
        try:
            with transaction.atomic():
                self._begin(tick)
                self._put(tick)
        except Fenced:
            raise
        except Exception as error:
            if not is_refusal(error):
                raise
            logger.warning("a tick cannot be stored whole (%s): storing its parts", one_line(error))
            aside = self._store_parts(tick)
        self._note_progress(_without(tick.read.records if tick.read else [], aside))

    def _store_parts(self, tick: Tick) -> list[Record]:
        """Store all of a tick that can be, in one transaction; return the records that were set aside."""
        refused: list[tuple[Part, Exception]] = []
        with transaction.atomic():
            self._begin(tick)
            for part in parts_of(tick):
                refused += store_apart(part, self._put)
            for part, error in refused:
                self._set_aside(part, error)
        return [record for part, _ in refused if part.read for record in part.read.records]

    def _set_aside(self, part: Part, error: Exception) -> None:
        """Keep what could not be stored in a file beside the journal, and say so."""
        reason = self._redactor.text(one_line(error))
        put_into_quarantine(self._folder, part, reason)
        Attempt.objects.filter(pk=self.lease.attempt_id).update(set_aside_records=F("set_aside_records") + 1)
        text = f"1 record could not be stored: {describe(part)}: {reason} It is kept in {QUARANTINE_FILE}."
        feed.append(self.lease.run_id, self._line(text, "error"))

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
        metrics = list(blocks_as_events(self.lease.number, points(records)))
        events: list[Event] = [*metrics, *tick.events]
        fields: dict[str, Any] = {}
        for record in records:
            if record.kind != journal.POINT:
                events += self._store_record(record, fields)
        if tick.system is not None:
            moment = timezone.now().timestamp()
            step = records[-1].step if records else self.progress.step
            sampled = SystemSampled(attempt=self.lease.number, step=step, time=moment, values=tick.system)
            events.append(sampled)
            metrics.append(sampled)  # type: ignore[arg-type]
        events += self._console_events(tick)
        if metrics:
            storage.update_latest(self.lease.run_id, metrics)
        if fields:
            Run.objects.filter(pk=self.lease.run_id).update(**fields)
        if events:
            feed.append(self.lease.run_id, *events)

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
        if not lines and not skipped:
            return []
        return [LogWritten(attempt=self.lease.number, lines=lines, skipped_bytes=skipped)]

    def _store_console_offsets(self, offsets: Mapping[int, int]) -> None:
        attempt = Attempt.objects.get(pk=self.lease.attempt_id)
        attempt.console_offset = offsets.get(0, attempt.console_offset)
        attempt.console_offsets |= {str(rank): offset for rank, offset in offsets.items() if rank}
        attempt.save(update_fields=["console_offset", "console_offsets"])

    def _store_environment(self, record: Record) -> None:
        """Keep what rank 0 runs on, and of the others which devices they have."""
        environment = Attempt.objects.values_list("environment", flat=True).get(pk=self.lease.attempt_id)
        environment = merge_environments(environment, self._redactor.json(record.fields), record.rank)
        Attempt.objects.filter(pk=self.lease.attempt_id).update(environment=environment)

    def _store_record(self, record: Record, fields: dict[str, Any]) -> list[Event]:
        match record.kind:
            case journal.EPOCH:
                return [self._store_epoch(record, fields)]
            case journal.PLAN:
                plan = {name: _count(record.fields.get(name)) for name in PLAN_FIELDS}
                fields.update(plan)
                state = Run.objects.values_list("state", flat=True).get(pk=self.lease.run_id)
                return [StatusChanged(state=state, attempt=self.lease.number, **plan)]  # type: ignore[arg-type]
            case journal.ENVIRONMENT:
                self._store_environment(record)
            case journal.OUTCOME:
                self._store_outcome(record)
            case journal.STATE:
                note_pause(self.lease, record.fields.get("state") == RunState.PAUSED)
            case journal.KNOBS:
                knobs = self._redactor.json(record.fields["knobs"])
                fields["knobs"] = knobs
                return [KnobsChanged(attempt=self.lease.number, step=record.step, knobs=knobs)]
            case journal.CHECKPOINT:
                return [self._store_checkpoint(record)]
            case journal.TEXT:
                epoch = record.fields.get("epoch")
                return [
                    TextLogged(
                        attempt=self.lease.number,
                        step=record.step,
                        epoch=None if epoch is None else int(epoch),
                        name=str(record.fields["name"]),
                        text=self._redactor.text(str(record.fields["text"])),
                    )
                ]
            case journal.NOTE:
                level = str(record.fields.get("level", "info"))
                return [self._line(f"{_of_rank(record)}{record.fields.get('text', '')}", level)]
            case journal.DROPPED:
                dropped = int(record.fields.get("records", 0))
                attempt = Attempt.objects.get(pk=self.lease.attempt_id)
                attempt.dropped_records += dropped
                attempt.save(update_fields=["dropped_records"])
                text = f"{dropped} records could not be written to the journal: the disk did not take them."
                return [self._line(_of_rank(record) + text, "error")]
        return []

    def _line(self, text: str, level: str) -> LogWritten:
        line = LogLine(text=self._redactor.text(text), source="steersman", level=level)
        return LogWritten(attempt=self.lease.number, lines=[line])

    def _store_epoch(self, record: Record, fields: dict[str, Any]) -> EpochDone:
        reported: dict[str, float] = record.fields["values"]
        values: dict[str, float | None] = {
            name: value if math.isfinite(value) else None for name, value in reported.items()
        }
        nonfinite = {name: name_nonfinite(value) for name, value in reported.items() if not math.isfinite(value)}
        best = bool(record.fields.get("best"))
        epoch = int(record.fields["epoch"])
        EpochMetric.objects.update_or_create(
            run_id=self.lease.run_id,
            attempt=self.lease.number,
            epoch=epoch,
            defaults={
                "step": record.step,
                "duration_s": record.fields.get("duration_s"),
                "best": best,
                "extra": {name: value for name, value in values.items() if name not in EpochMetric.COLUMNS},
                "nonfinite": nonfinite,
                "at": datetime.fromtimestamp(record.time, UTC),
                **{name: value for name, value in values.items() if name in EpochMetric.COLUMNS},
            },
        )
        fields["epoch"] = epoch
        if best:
            name = best_metric_name(values)
            EpochMetric.objects.filter(run_id=self.lease.run_id, best=True).exclude(
                attempt=self.lease.number, epoch=epoch
            ).update(best=False)
            fields.update(best_metric=values.get(name), best_metric_name=name, best_epoch=epoch)
        return EpochDone(
            attempt=self.lease.number,
            epoch=epoch,
            step=record.step,
            duration_s=record.fields.get("duration_s"),
            best=best,
            values=values,
            nonfinite=nonfinite,
        )

    def _store_outcome(self, record: Record) -> None:
        command = Command.objects.filter(pk=record.fields["id"], run_id=self.lease.run_id).first()
        if command is None:
            return
        settled = complete_command(
            command,
            CommandState(record.fields["state"]),
            outcome=self._redactor.text(str(record.fields.get("reason", ""))),
            step=record.step,
            old=self._redactor.json(record.fields.get("old")),
            new=self._redactor.json(record.fields.get("new")),
            effective=self._redactor.json(record.fields.get("effective")),
            ranks=record.fields.get("ranks"),
        )
        if settled and command.kind == Extend.kind and record.fields["state"] == CommandState.APPLIED:
            # The next attempt must train as long as this one would have.
            longer = F("extra_epochs") + int(command.arguments["epochs"])
            Run.objects.filter(pk=self.lease.run_id).update(extra_epochs=longer)

    def _store_checkpoint(self, record: Record) -> CheckpointSaved:
        path = f"attempts/{self.lease.number}/{record.fields['path']}"
        stored = CheckpointSaved(
            attempt=self.lease.number,
            step=record.step,
            epoch=int(record.fields["epoch"]),
            name=str(record.fields["name"]),
            size_bytes=int(record.fields["size_bytes"]),
            sha256=str(record.fields["sha256"]),
            reason=str(record.fields.get("reason", Checkpoint.Reason.LAST)),
            metrics={
                str(name): value if math.isfinite(value) else None
                for name, value in (record.fields.get("metrics") or {}).items()
            },
        )
        Checkpoint.objects.update_or_create(
            run_id=self.lease.run_id,
            path=path,
            defaults={
                "attempt": stored.attempt,
                "step": stored.step,
                "epoch": stored.epoch,
                "name": stored.name,
                "size_bytes": stored.size_bytes,
                "sha256": stored.sha256,
                "reason": stored.reason,
                "metrics": stored.metrics,
                "created_at": datetime.fromtimestamp(record.time, UTC),
            },
        )
        for row in Checkpoint.objects.filter(run_id=self.lease.run_id, attempt=self.lease.number).exclude(path=path):
            # The worker's rule of what to keep removed it.
            if not is_whole(self._folder / Path(row.path).relative_to(f"attempts/{self.lease.number}")):
                row.delete()
        return stored

    def _note_progress(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.kind == journal.POINT:
                self.progress.step = record.step
                self.progress.latest.update(record.values)
            elif record.kind == journal.EPOCH:
                self.progress.epoch = int(record.fields["epoch"])
                self.progress.latest.update(record.fields["values"])
            elif record.kind == journal.PLAN:
                self.progress.total_steps = record.fields.get("total_steps")
                self.progress.total_epochs = record.fields.get("total_epochs")
            elif record.kind == journal.ENVIRONMENT:
                self.progress.environment = merge_environments(self.progress.environment, record.fields, record.rank)
            elif record.kind == journal.END:
                self.progress.end = record.fields


def best_metric_name(values: Mapping[str, float | None]) -> str:
    """Return which of an epoch's values its being the best is about: "" where there is none."""
    return next((name for name in BEST_METRICS if name in values), next(iter(values), ""))


def _without(records: Sequence[Record], aside: Sequence[Record]) -> Iterable[Record]:
    left_out = {id(record) for record in aside}
    return (record for record in records if id(record) not in left_out)


def _progress_fields(records: Sequence[Record]) -> dict[str, Any]:
    last = next((record for record in reversed(records) if record.kind == journal.POINT), None)
    if last is None:
        return {}
    return {"step": last.step, "last_point_at": datetime.fromtimestamp(last.time, UTC)}


def _count(value: Any) -> int | None:
    return None if value is None or not math.isfinite(value) or value < 1 else int(value)


def _of_rank(record: Record) -> str:
    """Return who says it, where it is not rank 0."""
    return f"Rank {record.rank}: " if record.rank else ""


def merge_environments(environment: Mapping[str, Any], told: Mapping[str, Any], rank: int = 0) -> dict[str, Any]:
    """Return what is known of where an attempt runs, with what one more rank told: all GPUs of all ranks.

    A script may tell of anything under any name; only texts are taken for UUIDs of GPUs.
    """
    known = _texts(environment.get("gpu_uuids"))
    uuids = [*known, *(uuid for uuid in _texts(told.get("gpu_uuids")) if uuid not in known)]
    devices = environment.get("rank_devices")
    devices = dict(devices) if isinstance(devices, dict) else {}
    if rank:
        devices[str(rank)] = str(told.get("device", ""))
        told = environment
    return {**told, "gpu_uuids": uuids} | ({"rank_devices": devices} if devices else {})


def _texts(given: Any) -> list[str]:
    return [each for each in given if isinstance(each, str)] if isinstance(given, (list, tuple)) else []
