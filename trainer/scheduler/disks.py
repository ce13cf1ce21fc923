"""Warns if the disks to which this host's live trainings write are nearly full."""

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
    """Return the free and the total bytes of the file system of `folder`, None if they cannot be read."""
    try:
        found = shutil.disk_usage(folder)
    except OSError:
        # There is no checkpoint yet, or the folder is on another host.
        return None
    return found.free, found.total


def _scarcity(free: int, total: int) -> float:
    """Return the free space as a fraction of the limit below which a disk is nearly full."""
    return free / max(DiskDefaults().limit(total), 1)
