"""Records what happens to checkpoints: marks of people, ratings as good, removals and rollbacks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone

from runs.copies.removals import remove_copy
from runs.models import ORIGIN_ATTEMPT, Alert, Attempt, Branch, Checkpoint, EpochMetric, Run, Severity
from runs.protocol.events import BestEpoch, CheckpointMarked, CheckpointPlaced, CheckpointsRemoved, RolledBack
from runs.recording import feed

# The detectors for which a rule may roll back. A checkpoint is good at the earliest after `QUIET_STEPS` steps without
# their alerts.
FAULTS = ("non-finite", "spike", "divergence", "weight-growth")
QUIET_STEPS = 100
BEST_METRICS = ("validation_accuracy", "validation_loss")


def forget_checkpoints(run_id: int, attempt: int, removed: Sequence[Checkpoint]) -> None:
    """Delete the rows of checkpoints whose files were removed, and notify viewers.

    `attempt` is the run's current one.
    """
    ids = [checkpoint.pk for checkpoint in removed]
    if not ids:
        return
    with transaction.atomic():
        _lock_run(run_id)
        Checkpoint.objects.filter(pk__in=ids).delete()
        for each in removed:
            if each.pushed_at is not None:
                transaction.on_commit(partial(remove_copy, run_id, each.sha256), robust=True)
        feed.append(run_id, CheckpointsRemoved(attempt=attempt, ids=ids))


def hosts_of(run_id: int, attempts: Collection[int]) -> dict[int, str]:
    """Return the host on which each of these attempts wrote its checkpoints, without those that are unknown.

    `ORIGIN_ATTEMPT` is the host that has the checkpoint at which a branch begins.
    """
    hosts = dict(Attempt.objects.filter(run=run_id, number__in=attempts).order_by().values_list("number", "host"))
    if ORIGIN_ATTEMPT in attempts:
        hosts[ORIGIN_ATTEMPT] = Branch.objects.filter(run=run_id).values_list("host", flat=True).first() or ""
    return {number: host for number, host in hosts.items() if host}


def host_of(checkpoint: Checkpoint) -> str:
    """Return the host on which a checkpoint was written, "" if it is unknown."""
    return hosts_of(checkpoint.run_id, [checkpoint.attempt]).get(checkpoint.attempt, "")


def is_pushed(checkpoint: Checkpoint) -> bool:
    """Return whether this portal should have a complete copy. The storage is not asked, because that takes time."""
    return checkpoint.pushed_at is not None


def note_push(checkpoint: Checkpoint) -> bool:
    """Store that the portal has a copy, and notify viewers. Return False if the checkpoint was removed or replaced."""
    return _place(checkpoint, pushed_at=timezone.now(), on_host=True)


def note_lost_copy(checkpoint: Checkpoint) -> None:
    """Store that the portal no longer has a copy, which its host is about to push again, and notify viewers."""
    _place(checkpoint, pushed_at=None, on_host=True)


def _place(checkpoint: Checkpoint, **fields: Any) -> bool:
    same = Checkpoint.objects.filter(pk=checkpoint.pk, sha256=checkpoint.sha256)
    with transaction.atomic():
        _lock_run(checkpoint.run_id)
        is_there = bool(same.update(**fields))
        notify_of_places(same)
    return is_there


def lose_from_host(run_id: int, attempt: int, paths: Collection[str]) -> None:
    """Store that a host has removed the files at these paths; notify viewers.

    Rows of checkpoints without a copy in the portal are deleted. `attempt` is the run's current one. Call inside a
    transaction.
    """
    gone = Checkpoint.objects.filter(run_id=run_id, path__in=paths).order_by("pk")
    forget_checkpoints(run_id, attempt, list(gone.filter(pushed_at=None)))
    left = list(gone.filter(on_host=True).values_list("pk", flat=True))
    Checkpoint.objects.filter(pk__in=left).update(on_host=False)
    notify_of_places(Checkpoint.objects.filter(pk__in=left).order_by("pk"))


def mark_checkpoint(checkpoint: Checkpoint, keep: bool) -> None:
    """Mark a checkpoint, so that no retention rule removes it after its run has ended, or unmark it; notify viewers."""
    with transaction.atomic():
        _lock_run(checkpoint.run_id)
        if Checkpoint.objects.filter(pk=checkpoint.pk).exclude(keep=keep).update(keep=keep):
            checkpoint.refresh_from_db(fields=["keep", "good"])
            _notify_of_marks(checkpoint)
    checkpoint.keep = keep


def rate_checkpoints(run_id: int, attempt: int, step: int, settled: int | None = None) -> int:
    """Rate the checkpoints of an attempt as good if the detectors found nothing for long enough after them.

    `step` is the last step that the detectors have judged: `QUIET_STEPS` steps are enough for faults of the training.
    `settled` is the step up to which its loss would show a fault by now, None if there is no loss: in a fast training
    the detectors see few of these steps, and in a long one they compare longer parts of the curve. Returns the number
    that this call rated as good. Notifies viewers.
    """
    waiting = Checkpoint.objects.filter(run_id=run_id, attempt=attempt, abandoned=False, good=False)
    latest = step - QUIET_STEPS
    judged = list(waiting.filter(step__lte=latest if settled is None else min(latest, settled)))
    if not judged:
        return 0
    faults = Alert.objects.filter(run_id=run_id, attempt=attempt, detector__in=FAULTS).exclude(severity=Severity.INFO)
    good = [each for each in judged if not _had_fault(each, list(faults))]
    with transaction.atomic():
        _lock_run(run_id)
        for checkpoint in good:
            if Checkpoint.objects.filter(pk=checkpoint.pk, good=False, abandoned=False).update(good=True):
                checkpoint.refresh_from_db(fields=["keep", "good"])
                _notify_of_marks(checkpoint)
    return len(good)


def with_unrated(run_ids: Collection[int]) -> set[tuple[int, int]]:
    """Return (run, attempt) of the attempts that have checkpoints for `rate_checkpoints`."""
    waiting = Checkpoint.objects.filter(run__in=run_ids, abandoned=False, good=False)
    return set(waiting.order_by().values_list("run_id", "attempt").distinct())


def _lock_run(run_id: int) -> None:
    """Lock the row of the run before those of its checkpoints, as everywhere, so that no two transactions deadlock."""
    list(Run.objects.select_for_update().filter(pk=run_id).values_list("pk"))


def _had_fault(checkpoint: Checkpoint, faults: Sequence[Alert]) -> bool:
    """Return whether a fault was active when a checkpoint was saved, or began in the steps after it.

    Times are compared first, because a run that was rolled back repeats the steps of earlier faults.
    """
    for alert in faults:
        is_over = alert.cleared_at is not None and alert.cleared_at < checkpoint.created_at
        began = alert.step or 0 if alert.onset is None else alert.onset
        is_later = alert.began_at > checkpoint.created_at and began > checkpoint.step + QUIET_STEPS
        if not is_over and not is_later:
            return True
    return False


def _notify_of_marks(checkpoint: Checkpoint) -> None:
    marked = CheckpointMarked(attempt=checkpoint.attempt, id=checkpoint.pk, keep=checkpoint.keep, good=checkpoint.good)
    feed.append(checkpoint.run_id, marked)


def notify_of_places(checkpoints: Iterable[Checkpoint]) -> None:
    """Notify viewers of the places that have the files of these checkpoints, of one run."""
    for each in checkpoints:
        placed = CheckpointPlaced(attempt=each.attempt, id=each.pk, on_host=each.on_host, pushed=is_pushed(each))
        feed.append(each.run_id, placed)


def roll_back(run_id: int, attempt: int, *, step: int, left: int, epoch: int) -> tuple[RolledBack, dict[str, Any]]:
    """Abandon what a run recorded after `step`; return its event, and the fields of the run that change.

    `epoch` is the number of completed epochs at `step`, `left` the step that the training had reached. The caller
    updates the steps of run and attempt, because points may follow in the same report. Call inside a transaction.
    """
    Checkpoint.objects.filter(run_id=run_id, step__gt=step).update(abandoned=True)
    EpochMetric.objects.filter(run_id=run_id, step__gt=step).update(abandoned=True, best=False)
    row = _best_epoch(run_id)
    best = _best_before(run_id)
    if row is not None:
        EpochMetric.objects.filter(run_id=run_id, best=True).exclude(pk=row.pk).update(best=False)
        EpochMetric.objects.filter(pk=row.pk).update(best=True)
        name = best_metric_name(row.reported)
        best = BestEpoch(
            attempt=row.attempt, epoch=row.epoch, order=row.order, metric=row.reported.get(name), metric_name=name
        )
    event = RolledBack(attempt=attempt, step=step, left=left, epoch=epoch, best=best)
    return event, {
        "epoch": epoch,
        "best_metric": best.metric if best else None,
        "best_metric_name": best.metric_name if best else "",
        "best_epoch": best.epoch if best else None,
    }


def _best_epoch(run_id: int) -> EpochMetric | None:
    """Return the newest epoch in the current lineage of the run that was the best when it was logged."""
    resumed = [
        (number, step)
        for number, step in Attempt.objects.filter(run_id=run_id).values_list("number", "resumed_step")
        if step is not None
    ]
    for row in EpochMetric.objects.filter(run_id=run_id, was_best=True, abandoned=False).order_by("-pk"):
        if not any(number > row.attempt and row.step > step for number, step in resumed):
            return row
    return None


def _best_before(run_id: int) -> BestEpoch | None:
    """Return the best epoch of a branch at its beginning, None if it had none or the run is not a branch."""
    branch = Branch.objects.filter(run=run_id).exclude(best_epoch=None).first()
    if branch is None or branch.best_epoch is None:
        return None
    return BestEpoch(
        attempt=ORIGIN_ATTEMPT,
        epoch=branch.best_epoch,
        order=0,
        metric=branch.best_metric,
        metric_name=branch.best_metric_name,
    )


def best_metric_name(values: Mapping[str, float | None]) -> str:
    """Return the name of the value by which an epoch is the best, "" if it has no values."""
    return next((name for name in BEST_METRICS if name in values), next(iter(values), ""))
