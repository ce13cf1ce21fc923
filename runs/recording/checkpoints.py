"""Forgetting checkpoints that are kept no longer."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from runs.models import Checkpoint
from runs.protocol.events import CheckpointsRemoved
from runs.recording import feed


def forget_checkpoints(run_id: int, attempt: int, removed: Sequence[Checkpoint]) -> None:
    """Delete the rows of checkpoints whose files are gone, and tell viewers. `attempt` is the run's present one."""
    ids = [checkpoint.pk for checkpoint in removed]
    if not ids:
        return
    with transaction.atomic():
        Checkpoint.objects.filter(pk__in=ids).delete()
        feed.append(run_id, CheckpointsRemoved(attempt=attempt, ids=ids))
