"""What becomes of a record other than a point, by its kind: rows, fields of the run, and events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.db.models import F

from runs.models import Attempt, Checkpoint, Command, CommandState, EpochMetric, Run, RunState
from runs.protocol.commands import Extend
from runs.protocol.events import (
    CheckpointSaved,
    EnvironmentRecorded,
    EpochDone,
    Event,
    KnobsChanged,
    LogLine,
    LogWritten,
    TextLogged,
    iso,
    name_nonfinite,
)
from runs.recording.lifecycle import Lease, complete_command, note_pause
from runs.recording.status import announce_status
from steersman.agent.machine.redactor import Redactor
from steersman.files import journal
from steersman.files.checkpoint import is_whole
from steersman.files.journal import Record

PLAN_FIELDS = ("total_epochs", "total_steps", "steps_per_epoch")
BEST_METRICS = ("validation_accuracy", "validation_loss")


class RecordStore:
    """Stores the records of one attempt. Call inside a transaction."""

    def __init__(self, lease: Lease, folder: Path, redactor: Redactor) -> None:
        self._lease = lease
        self._folder = folder
        self._redactor = redactor

    def store(self, record: Record, fields: dict[str, Any]) -> list[Event]:
        """Store a record; return its events. What it changes of the run goes to `fields`."""
        match record.kind:
            case journal.EPOCH:
                return [self._store_epoch(record, fields)]
            case journal.PLAN:
                plan = {name: _count(record.fields.get(name)) for name in PLAN_FIELDS}
                Run.objects.filter(pk=self._lease.run_id).update(**plan)
                # At once: an event that came behind later ones of this tick would bring their state back.
                announce_status(self._lease.run_id)
            case journal.ENVIRONMENT:
                self._store_environment(record)
                return [EnvironmentRecorded(attempt=self._lease.number)]
            case journal.OUTCOME:
                self._store_outcome(record)
            case journal.STATE:
                note_pause(self._lease, record.fields.get("state") == RunState.PAUSED)
            case journal.KNOBS:
                knobs = self._redactor.json(record.fields["knobs"])
                fields["knobs"] = knobs
                return [KnobsChanged(attempt=self._lease.number, step=record.step, knobs=knobs)]
            case journal.CHECKPOINT:
                return [self._store_checkpoint(record)]
            case journal.TEXT:
                epoch = record.fields.get("epoch")
                return [
                    TextLogged(
                        attempt=self._lease.number,
                        step=record.step,
                        epoch=None if epoch is None else int(epoch),
                        name=str(record.fields["name"]),
                        text=self._redactor.text(str(record.fields["text"])),
                    )
                ]
            case journal.NOTE:
                level = str(record.fields.get("level", "info"))
                return [self.line(f"{_of_rank(record)}{record.fields.get('text', '')}", level)]
            case journal.DROPPED:
                dropped = int(record.fields.get("records", 0))
                attempt = Attempt.objects.get(pk=self._lease.attempt_id)
                attempt.dropped_records += dropped
                attempt.save(update_fields=["dropped_records"])
                text = f"{dropped} records could not be written to the journal: the disk did not take them."
                return [self.line(_of_rank(record) + text, "error")]
        return []

    def line(self, text: str, level: str) -> LogWritten:
        """Return an event that says something about the records, without secrets."""
        line = LogLine(text=self._redactor.text(text), source="steersman", level=level)
        return LogWritten(attempt=self._lease.number, lines=[line])

    def _store_environment(self, record: Record) -> None:
        """Keep what rank 0 runs on, and of the others which devices they have."""
        environment = Attempt.objects.values_list("environment", flat=True).get(pk=self._lease.attempt_id)
        environment = merge_environments(environment, self._redactor.json(record.fields), record.rank)
        Attempt.objects.filter(pk=self._lease.attempt_id).update(environment=environment)

    def _store_epoch(self, record: Record, fields: dict[str, Any]) -> EpochDone:
        reported: dict[str, float] = record.fields["values"]
        values: dict[str, float | None] = {
            name: value if math.isfinite(value) else None for name, value in reported.items()
        }
        nonfinite = {name: name_nonfinite(value) for name, value in reported.items() if not math.isfinite(value)}
        best = bool(record.fields.get("best"))
        epoch = int(record.fields["epoch"])
        EpochMetric.objects.update_or_create(
            run_id=self._lease.run_id,
            attempt=self._lease.number,
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
        name = best_metric_name(values) if best else ""
        if best:
            EpochMetric.objects.filter(run_id=self._lease.run_id, best=True).exclude(
                attempt=self._lease.number, epoch=epoch
            ).update(best=False)
            fields.update(best_metric=values.get(name), best_metric_name=name, best_epoch=epoch)
        return EpochDone(
            attempt=self._lease.number,
            epoch=epoch,
            step=record.step,
            duration_s=record.fields.get("duration_s"),
            best=best,
            values=values,
            nonfinite=nonfinite,
            best_metric=values.get(name),
            best_metric_name=name,
        )

    def _store_outcome(self, record: Record) -> None:
        command = Command.objects.filter(pk=record.fields["id"], run_id=self._lease.run_id).first()
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
            Run.objects.filter(pk=self._lease.run_id).update(extra_epochs=longer)

    def _store_checkpoint(self, record: Record) -> CheckpointSaved:
        path = f"attempts/{self._lease.number}/{record.fields['path']}"
        row, _ = Checkpoint.objects.update_or_create(
            run_id=self._lease.run_id,
            path=path,
            defaults={
                "attempt": self._lease.number,
                "step": record.step,
                "epoch": int(record.fields["epoch"]),
                "name": str(record.fields["name"]),
                "size_bytes": int(record.fields["size_bytes"]),
                "sha256": str(record.fields["sha256"]),
                "reason": str(record.fields.get("reason", Checkpoint.Reason.LAST)),
                "metrics": {
                    str(name): value if math.isfinite(value) else None
                    for name, value in (record.fields.get("metrics") or {}).items()
                },
                "created_at": datetime.fromtimestamp(record.time, UTC),
            },
        )
        return CheckpointSaved(
            id=row.pk,
            attempt=row.attempt,
            step=row.step,
            epoch=row.epoch,
            created_at=iso(row.created_at),
            name=row.name,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            reason=row.reason,
            metrics=row.metrics,
            removed=self._forget_removed(row),
        )

    def _forget_removed(self, saved: Checkpoint) -> list[int]:
        """Delete the rows of checkpoints that the worker's rule of what to keep removed; return their ids."""
        others = Checkpoint.objects.filter(run_id=self._lease.run_id, attempt=self._lease.number).exclude(pk=saved.pk)
        removed = [
            row.pk
            for row in others.order_by("pk")
            if not is_whole(self._folder / Path(row.path).relative_to(f"attempts/{self._lease.number}"))
        ]
        Checkpoint.objects.filter(pk__in=removed).delete()
        return removed


def best_metric_name(values: Mapping[str, float | None]) -> str:
    """Return which of an epoch's values its being the best is about: "" where there is none."""
    return next((name for name in BEST_METRICS if name in values), next(iter(values), ""))


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
