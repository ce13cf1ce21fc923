"""The checkpoints of one attempt: their folders, and which are removed when others replace them."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Protocol

from steersman.files.checkpoint import remove_checkpoint
from steersman.files.retention import Kept, dropped
from steersman.records.kinds import Level

# The folder of checkpoints within that of an attempt.
CHECKPOINTS = "checkpoints"
# Folders that this module names; whatever else lies beside them is the training's own.
FOLDER_NAME = re.compile(r"step-(-?\d{7,})(?:-(\d+))?")


def place_of(name: str) -> tuple[int, int] | None:
    """Return the step of a folder that this module named, and how many had been saved there; None for others."""
    found = FOLDER_NAME.fullmatch(name)
    return (int(found[1]), int(found[2] or 1)) if found else None


class Notes(Protocol):
    """Receives messages about problems: a run."""

    def note(self, text: str, level: Level = "info") -> None: ...


class KeptCheckpoints:
    """Names the checkpoints of one attempt in the folder `parent`, and removes those that `retention` drops."""

    def __init__(self, notes: Notes, parent: Path) -> None:
        self._notes = notes
        self._parent = parent
        self._kept: list[Kept] = []
        # The number of saves at each step: after a rollback, a training reaches the same steps again.
        self._saves: dict[int, int] = {}

    def new_folder(self, step: int) -> Path:
        """Return a folder that does not exist yet: several may be saved at one step, with different knobs.

        All ranks find the same one by counting, because a host may not see the newest folders of another yet.
        """
        saves = self._saves[step] = self._saves.get(step, 0) + 1
        return self._parent / (f"step-{step:08d}" if saves == 1 else f"step-{step:08d}-{saves}")

    def add(self, folder: Path, reason: str, step: int) -> None:
        """Keep a checkpoint that is whole; remove those that no rule keeps."""
        self._kept.append(Kept(folder, reason, time.time(), step))
        for each in dropped(self._kept):
            self._kept.remove(each)
            self.remove(each.folder)

    def remove(self, folder: Path) -> None:
        """Remove a checkpoint; log a note if that fails."""
        try:
            remove_checkpoint(folder)
        except OSError as error:
            self._notes.note(f"An old checkpoint could not be removed: {error.strerror}.", level="warning")
