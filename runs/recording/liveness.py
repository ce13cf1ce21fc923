"""Evidence of life, judged from what the record holds."""

from __future__ import annotations

from datetime import datetime, timedelta

from runs.models import Run
from runs.recording.lifecycle import SILENT_AFTER_S, UNREACHABLE_AFTER_S

SILENT_AFTER = timedelta(seconds=SILENT_AFTER_S)


def life_after(silent_s: float) -> str:
    """Return what `silent_s` seconds without a heartbeat say: alive, unreachable or silent."""
    if silent_s >= SILENT_AFTER_S:
        return "silent"
    return "unreachable" if silent_s >= UNREACHABLE_AFTER_S else "alive"


def silent(run: Run, now: datetime) -> bool:
    """Say whether `run` should be alive but sent no heartbeat for 12 s.

    Compares with this host's wall clock, which is good enough to show, not to take a run over.
    """
    if not run.is_live:
        return False
    last_sign = run.heartbeat_at or run.started_at
    return last_sign is None or now - last_sign > SILENT_AFTER


def duration_of(run: Run, now: datetime) -> timedelta | None:
    """Return how long the run has trained in all its attempts, None if it never started."""
    if run.started_at is None:
        return None
    present = now - run.training_since if run.training_since is not None else timedelta()
    return timedelta(seconds=run.trained_s) + max(present, timedelta())


def percent_of(run: Run) -> int | None:
    """Return how much of the planned steps, or epochs, is done: 0 to 100."""
    if run.total_steps:
        return min(100, run.step * 100 // run.total_steps)
    if run.total_epochs:
        return min(100, run.epoch * 100 // run.total_epochs)
    return None
