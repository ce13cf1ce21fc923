"""Warns if the disks that this host's live trainings write to are nearly full."""

from __future__ import annotations

import shutil
from pathlib import Path

from django.db.models import F

from runs.models import Attempt
from runs.recording.lifecycle import LIVE
from runs.recording.state_alerts import DiskDefaults, note_disk
from steersman.agent.folders import attempt_folder


def note_disks(data: Path, host: str) -> None:
    """Check the file systems of the data folder and of the checkpoints of all live runs of `host`."""
    live = Attempt.objects.filter(host=host, ended_at=None, number=F("run__attempt"), run__state__in=LIVE)
    of_data = usage(data)
    for run_id, number in live.values_list("run_id", "number"):
        usages = [of_data, usage(attempt_folder(data, run_id, number) / "checkpoints")]
        known = [each for each in usages if each is not None]
        if known:
            free, total = min(known, key=lambda each: _scarcity(*each))
            note_disk(run_id, number, free, total)


def usage(folder: Path) -> tuple[int, int] | None:
    """Return bytes free to us and in all of the file system of `folder`, None if it cannot be asked."""
    try:
        found = shutil.disk_usage(folder)
    except OSError:
        # No checkpoint yet, or a folder that another host has.
        return None
    return found.free, found.total


def _scarcity(free: int, total: int) -> float:
    """Return how much is free of what makes a disk nearly full."""
    return free / max(DiskDefaults().limit(total), 1)
