"""Checkpoints that a person marks to be kept, and forgetting those that are kept no longer."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from runs.models import Checkpoint
from runs.protocol.events import CheckpointMarked, CheckpointsRemoved
from runs.recording import feed


def forget_checkpoints(run_id: int, attempt: int, removed: Sequence[Checkpoint]) -> None:
    """Delete the rows of checkpoints whose files are gone, and tell viewers. `attempt` is the run's present one."""
    ids = [checkpoint.pk for checkpoint in removed]
    if not ids:
        return
    with transaction.atomic():
        Checkpoint.objects.filter(pk__in=ids).delete()
        feed.append(run_id, CheckpointsRemoved(attempt=attempt, ids=ids))


def mark_checkpoint(checkpoint: Checkpoint, keep: bool) -> None:
    """Mark a checkpoint, so that no rule removes it once its run has ended, or take the mark away; tell viewers."""
    with transaction.atomic():
        if Checkpoint.objects.filter(pk=checkpoint.pk).exclude(keep=keep).update(keep=keep):
            marked = CheckpointMarked(attempt=checkpoint.attempt, id=checkpoint.pk, keep=keep)
            feed.append(checkpoint.run_id, marked)
    checkpoint.keep = keep
