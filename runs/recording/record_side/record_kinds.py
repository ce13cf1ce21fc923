"""Stores records other than points, by kind: rows, fields of the run, and events.

Every text has passed the redactor of its host.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from django.db.models import F, Q

from runs.models import OF_CODE, Attempt, Checkpoint, Command, CommandState, EpochMetric, Run
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
)
from runs.protocol.nonfinite import name_nonfinite
from runs.recording import alerts
from runs.recording.checkpoints import best_metric_name, lose_from_host, roll_back
from runs.recording.lifecycle import Lease, complete_command, correct_effect, note_pause
from runs.recording.record_side.own_parameters import store_parameters
from runs.recording.status import announce_status, store_gpu_time
from steersman.messages.environments import merge_environments
from steersman.messages.reports import GpuDescription, SetAside
from steersman.recorder import MOST_WATCHED
from steersman.records.kinds import (
    AlertRecord,
    CheckpointRecord,
    DroppedRecord,
    EffectRecord,
    EnvironmentRecord,
    EpochRecord,
    HandlersRecord,
    KnobsRecord,
    NoteRecord,
    OutcomeRecord,
    ParametersRecord,
    PatchRecord,
    PlanRecord,
    StateRecord,
    TextRecord,
    WatchRecord,
)
from steersman.records.record import Record
from steersman.spec import ValueSpec

# Logged once per attempt: a loop over folds would repeat it in each epoch.
# The path of a checkpoint of another attempt of the run.
EARLIER = re.compile(r"\.\./(?=\d+/)")
LOGGED_AGAIN = (
    "Epoch {epoch} was logged again. The newest values count; the earlier ones are kept and drawn as paler lines. For "
    "folds, continue the count of epochs, or add the fold to the names: log_epoch(epoch, **{{f'fold{{fold}}/loss': "
    "loss}})."
)
SET_ASIDE = "1 record could not be stored ({what}). {reason} The record is kept in quarantine.bin."


# Records that only concern their attempt: they change neither the row of the run nor its commands.
OF_AN_ATTEMPT = (
    CheckpointRecord,
    DroppedRecord,
    EnvironmentRecord,
    EpochRecord,
    NoteRecord,
    PatchRecord,
    TextRecord,
)


class RecordStore:
    """Stores the records of one attempt. Call inside a transaction."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def store_as_history(self, record: Record) -> list[Event]:
        """Store a record of an attempt that no longer holds the run; return its events."""
        if not isinstance(record, OF_AN_ATTEMPT):
            return []
        if isinstance(record, EpochRecord):
            # Only the attempt that holds the run decides which epoch is the best.
            record = replace(record, best=False)
        return self.store(record, {})

    def store(self, record: Record, fields: dict[str, Any]) -> list[Event]:
        """Store a record; return its events. Its changes to the run are put into `fields`."""
        match record:
            case EpochRecord():
                return self._store_epoch(record, fields)
            case PlanRecord():
                self._store_plan(record)
            case EnvironmentRecord():
                self._store_environment(record)
                return [EnvironmentRecorded(attempt=self._lease.number)]
            case OutcomeRecord():
                return self._store_outcome(record, fields)
            case StateRecord():
                note_pause(self._lease, record.state == "paused")
            case KnobsRecord():
                knobs: list[dict[str, Any]] = list(record.knobs)
                for knob in knobs:
                    # An invalid knob is refused here: if it were stored, every later command would fail.
                    ValueSpec.from_wire(knob)
                fields["knobs"] = self._merged(knobs, fields) if record.partial else knobs
                part = int(record.partial)
                return [KnobsChanged(attempt=self._lease.number, step=record.step, knobs=knobs, part=part)]
            case EffectRecord():
                correct_effect(record.id, self._lease.run_id, record.effective)
            case HandlersRecord():
                self._store_handlers(record)
            case ParametersRecord():
                told = store_parameters(self._lease.run_id, record)
                known = EnvironmentRecorded(attempt=self._lease.number)
                return [known, self.line(told, "warning")] if told else [known]
            case PatchRecord():
                Attempt.objects.filter(pk=self._lease.attempt_id).update(patch=record.patch)
            case CheckpointRecord():
                return [self._store_checkpoint(record)]
            case TextRecord():
                return [
                    TextLogged(
                        attempt=self._lease.number,
                        step=record.step,
                        epoch=record.epoch,
                        name=record.name,
                        text=record.text,
                    )
                ]
            case AlertRecord():
                return self._store_alert(record)
            case WatchRecord():
                self._store_goal(record)
            case NoteRecord():
                return [self.line(_of_rank(record) + record.text, record.level)]
            case DroppedRecord():
                attempt = Attempt.objects.get(pk=self._lease.attempt_id)
                attempt.dropped_records += record.records
                attempt.save(update_fields=["dropped_records"])
                return [self.line(_of_rank(record) + _dropped(record), "warning" if record.above_bound else "error")]
        return []

    def _merged(self, knobs: list[dict[str, Any]], fields: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the run's knobs, with some of them updated."""
        known = fields.get("knobs")
        if known is None:
            known = Run.objects.values_list("knobs", flat=True).get(pk=self._lease.run_id)
        named = {knob["name"]: knob for knob in known} | {knob["name"]: knob for knob in knobs}
        return list(named.values())

    def _store_handlers(self, record: HandlersRecord) -> None:
        run = Run.objects.get(pk=self._lease.run_id)
        before, run.handled_commands = run.offers, record.commands
        run.save(update_fields=["handled_commands"])
        if run.offers != before:
            announce_status(run.pk)

    def _store_goal(self, record: WatchRecord) -> None:
        """Store a goal for a supervisor that takes over, and for the next attempt until it declares its own."""
        attempt = Attempt.objects.get(pk=self._lease.attempt_id)
        if record.name in attempt.goals or len(attempt.goals) < MOST_WATCHED:
            attempt.goals[record.name] = record.goal
            attempt.save(update_fields=["goals"])

    def line(self, text: str, level: str) -> LogWritten:
        """Return an event with a message about the records."""
        line = LogLine(text=text, source="steersman", level=level)
        return LogWritten(attempt=self._lease.number, lines=[line])

    def _store_environment(self, record: EnvironmentRecord) -> None:
        """Store the environment of rank 0, and of the other ranks only their devices."""
        environment = Attempt.objects.values_list("environment", flat=True).get(pk=self._lease.attempt_id)
        environment = merge_environments(environment, record.environment, record.rank)
        Attempt.objects.filter(pk=self._lease.attempt_id).update(environment=environment)
        store_gpu_time(self._lease.run_id)

    def store_gpus(self, gpus: Sequence[GpuDescription]) -> EnvironmentRecorded:
        """Store the GPUs of a training as the driver reports them; values from the training itself win."""
        described = {
            "gpus": [gpu.name for gpu in gpus],
            "cuda_devices": [
                {"index": index, "name": gpu.name, "uuid": gpu.uuid, "memory_mib": gpu.memory_mib}
                for index, gpu in enumerate(gpus)
            ],
            "driver": gpus[0].driver,
        }
        environment = Attempt.objects.values_list("environment", flat=True).get(pk=self._lease.attempt_id)
        Attempt.objects.filter(pk=self._lease.attempt_id).update(environment=described | environment)
        store_gpu_time(self._lease.run_id)
        return EnvironmentRecorded(attempt=self._lease.number)

    def _store_plan(self, record: PlanRecord) -> None:
        Run.objects.filter(pk=self._lease.run_id).update(
            total_epochs=record.total_epochs, total_steps=record.total_steps, steps_per_epoch=record.steps_per_epoch
        )
        # Announced at once: after later events of this tick, it would restore an older state.
        announce_status(self._lease.run_id)

    def _store_alert(self, record: AlertRecord) -> list[Event]:
        """Open an alert if there is room. If its attempt has ended, it becomes a console line."""
        if not alerts.has_room(self._lease.run_id, self._lease.number, OF_CODE):
            alerts.leave_out(self._lease.run_id, self._lease.number)
            return []
        finding = alerts.Finding(
            detector=OF_CODE,
            severity=record.level,
            title=record.name,
            text=record.text,
            step=record.step,
            began_at=datetime.fromtimestamp(record.time, UTC),
            late=alerts.is_late(record.time, time.time()),
        )
        if alerts.begin(self._lease.run_id, self._lease.number, finding) is None:
            return [self.line(f"Alert: {record.name}", "warning")]
        return []

    def _store_epoch(self, record: EpochRecord, fields: dict[str, Any]) -> list[Event]:
        values, nonfinite = _split(record.values)
        epoch = record.epoch
        of_attempt = EpochMetric.objects.filter(run_id=self._lease.run_id, attempt=self._lease.number)
        before = of_attempt.filter(epoch=epoch).order_by("-order").values_list("order", flat=True).first()
        order = 0 if before is None else before + 1
        is_first_repeat = order > 0 and not of_attempt.filter(Q(order__gt=0) | Q(epoch=epoch, abandoned=True)).exists()
        row = EpochMetric.objects.create(
            run_id=self._lease.run_id,
            attempt=self._lease.number,
            epoch=epoch,
            order=order,
            step=record.step,
            duration_s=record.duration_s,
            best=record.best,
            was_best=record.best,
            extra={name: value for name, value in values.items() if name not in EpochMetric.COLUMNS},
            nonfinite=nonfinite,
            at=datetime.fromtimestamp(record.time, UTC),
            **{name: value for name, value in values.items() if name in EpochMetric.COLUMNS},
        )
        fields["epoch"] = epoch
        name = best_metric_name(values) if record.best else ""
        if record.best:
            EpochMetric.objects.filter(run_id=self._lease.run_id, best=True).exclude(pk=row.pk).update(best=False)
            fields.update(best_metric=values.get(name), best_metric_name=name, best_epoch=epoch)
        done = EpochDone(
            attempt=self._lease.number,
            epoch=epoch,
            order=order,
            step=record.step,
            duration_s=record.duration_s,
            best=record.best,
            values=values,
            nonfinite=nonfinite,
            best_metric=values.get(name),
            best_metric_name=name,
        )
        if is_first_repeat:
            return [done, self.line(LOGGED_AGAIN.format(epoch=epoch), "warning")]
        return [done]

    def _store_outcome(self, record: OutcomeRecord, fields: dict[str, Any]) -> list[Event]:
        self._settle(record)
        if record.to_step is None:
            return []
        event, changed = roll_back(
            self._lease.run_id,
            self._lease.number,
            step=record.to_step,
            left=record.step,
            epoch=record.to_epoch or 0,
        )
        fields.update(changed)
        return [event]

    def _settle(self, record: OutcomeRecord) -> None:
        if record.id is None:
            return
        command = Command.objects.filter(pk=record.id, run_id=self._lease.run_id).first()
        if command is None:
            return
        settled = complete_command(
            command,
            CommandState(record.state),
            outcome=record.reason,
            step=record.step,
            old=record.old,
            new=record.new,
            effective=record.effective,
            ranks=record.ranks,
        )
        if settled and command.kind == Extend.kind and record.state == "applied":
            # The next attempt must train for as many epochs as this one would have.
            longer = F("extra_epochs") + int(command.arguments["epochs"])
            Run.objects.filter(pk=self._lease.run_id).update(extra_epochs=longer)

    def _store_checkpoint(self, record: CheckpointRecord) -> CheckpointSaved:
        path = f"attempts/{self._lease.number}/{record.path}"
        metrics, _ = _split(record.metrics)
        row, _ = Checkpoint.objects.update_or_create(
            run_id=self._lease.run_id,
            path=path,
            defaults={
                "attempt": self._lease.number,
                "step": record.step,
                "epoch": record.epoch,
                "name": record.name,
                "size_bytes": record.size_bytes,
                "sha256": record.sha256,
                "reason": record.reason,
                "metrics": metrics,
                "has_manifest": record.has_manifest,
                # A script may save to the path of an abandoned checkpoint again.
                "abandoned": False,
                "good": False,
                "on_host": True,
                "pushed_at": None,
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
        )

    def forget_removed(self, paths: Sequence[str]) -> None:
        """Store that the host has removed the files of checkpoints; see `Report.removed_checkpoints`."""
        if paths:
            own = f"attempts/{self._lease.number}"
            places = [EARLIER.sub("attempts/", path) if EARLIER.match(path) else f"{own}/{path}" for path in paths]
            lose_from_host(self._lease.run_id, self._lease.number, places)

    def count_set_aside(self, aside: Sequence[SetAside]) -> list[Event]:
        """Count the records that stay on the host because they cannot be stored; return the lines that report them."""
        if aside:
            more = F("set_aside_records") + len(aside)
            Attempt.objects.filter(pk=self._lease.attempt_id).update(set_aside_records=more)
        return [self.line(SET_ASIDE.format(what=each.what, reason=each.reason), "error") for each in aside]


def _split(reported: Mapping[str, float]) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return values for JSON, None if not finite, and the names of those that are not finite."""
    values = {name: value if math.isfinite(value) else None for name, value in reported.items()}
    return values, {name: name_nonfinite(value) for name, value in reported.items() if not math.isfinite(value)}


def _dropped(record: DroppedRecord) -> str:
    if record.above_bound:
        return (
            f"{record.records} step records were left out, because the journal was above STEERSMAN_JOURNAL_MIB or its "
            "disk was nearly full."
        )
    return f"{record.records} records could not be written to the journal: the disk was full or failed."


def _of_rank(record: Record) -> str:
    """Return a prefix that names the rank of the record, "" for rank 0."""
    return f"Rank {record.rank}: " if record.rank else ""
