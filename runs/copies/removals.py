"""Removes copies. What cannot be removed because the storage is unavailable is noted, and removed later by `watch`."""

from __future__ import annotations

import logging
import re
import shutil
from contextlib import suppress

from runs.copies import arriving, stored
from runs.copies.arriving import NoRoom
from runs.copies.stored import StorageAway
from steersman.files.private import make_private, make_private_file

logger = logging.getLogger(__name__)

# Empty files in `pushed/`, named RUN or RUN-SHA256.
NOTES = ".removals"
NOTE = re.compile(r"(\d+)(?:-([0-9a-f]{64}))?")
PROBLEMS = (StorageAway, NoRoom, OSError)


def remove_copy(run_id: int, sha256: str) -> None:
    """Remove a copy and what has arrived of one; if that fails, it is noted for later."""
    _remove_or_note(run_id, sha256)


def remove_copies(run_id: int) -> None:
    """Remove all copies of a run; if that fails, it is noted for later."""
    _remove_or_note(run_id, "")


def remove_noted() -> None:
    """Remove the copies whose removal failed before. Stops at the first that fails again."""
    folder = arriving.pushed_folder() / NOTES
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        noted = NOTE.fullmatch(path.name)
        if noted is None:
            continue
        try:
            _remove(int(noted[1]), noted[2] or "")
        except PROBLEMS:
            return
        path.unlink(missing_ok=True)
        logger.info("the pushed checkpoints of run %s, whose removal had failed, are removed", path.name)


def _remove_or_note(run_id: int, sha256: str) -> None:
    try:
        _remove(run_id, sha256)
    except PROBLEMS as error:
        name = f"{run_id}-{sha256}" if sha256 else str(run_id)
        logger.warning("pushed checkpoints of run %s could not be removed, and will be removed later: %s", name, error)
        with suppress(OSError):
            make_private_file(make_private(arriving.pushed_folder() / NOTES) / name)


def _remove(run_id: int, sha256: str) -> None:
    """Remove a copy, or all copies of a run if `sha256` is empty."""
    if sha256:
        arriving.forget(run_id, sha256)
        stored.remove(run_id, sha256)
        return
    with suppress(FileNotFoundError):
        shutil.rmtree(arriving.folder_of(run_id))
    stored.remove_all(run_id)
