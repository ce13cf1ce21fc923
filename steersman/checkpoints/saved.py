"""A checkpoint that a script has saved, and how its objects are read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steersman.files.attempt import run_folder_of
from steersman.files.checkpoint import Damaged, read_manifest
from steersman.files.private import write_private
from steersman.values import first_line, shown

# The file in the folder of an attempt that names the checkpoint from which the attempt resumes.
RESUME_FILE = "resume.json"
SUFFIX = ".pt"


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """A complete checkpoint on disk: `folder` contains a file for each object, and the manifest with this SHA-256.

    `restored` is called with the objects that `restore` has restored.
    """

    folder: Path
    sha256: str
    step: int
    epoch: int
    name: str
    restored: Callable[[dict[str, Any]], None] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def found(cls, folder: Path, sha256: str) -> SavedCheckpoint:
        """Return the checkpoint in `folder`. Raises `steersman.Damaged` if it is gone or has changed."""
        manifest = read_manifest(folder, sha256)
        return cls(folder, sha256, manifest.step, manifest.epoch, manifest.name)

    def load(self, name: str) -> Any:
        """Return the object saved under `name`, with tensors on the CPU: a state, or a plain value.

        Nothing in the file can run code. Raises `steersman.Damaged` if it is gone, has changed, or cannot be read, and
        `KeyError` if the checkpoint has no such object.
        """
        files = read_manifest(self.folder, self.sha256).files
        if name + SUFFIX not in files:
            known = ", ".join(sorted(file.removesuffix(SUFFIX) for file in files))
            raise KeyError(f"The checkpoint {self.folder.name} has no object {shown(name)}; it has {known}.")
        torch = sys.modules.get("torch")
        if torch is None:
            raise Damaged("torch must be imported before a checkpoint is read")
        try:
            return torch.load(self.folder / (name + SUFFIX), weights_only=True, map_location="cpu")
        except Exception as error:  # any content of the file leads to a readable error
            raise Damaged(
                f"{name + SUFFIX} of the checkpoint {self.folder.name} is damaged, or contains more than plain values "
                f"({type(error).__name__}: {first_line(error)})"
            ) from None

    def restore(self, objects: Mapping[str, Any]) -> None:
        """Load the state that was saved under the name of each object with its `load_state_dict`.

        Raises as `load` does, and whatever `load_state_dict` raises, for example if the model has another shape.
        """
        states = {name: self.load(name) for name in objects}
        for name, given in objects.items():
            given.load_state_dict(states[name])
        if self.restored is not None:
            self.restored(dict(objects))


def write_resume(attempt: Path, folder: Path, sha256: str) -> None:
    """Write, for the training of the attempt in the folder `attempt`, the checkpoint from which it resumes."""
    place = str(folder.relative_to(run_folder_of(attempt)))
    write_private(attempt / RESUME_FILE, json.dumps({"path": place, "sha256": sha256}))


def resumed_checkpoint(attempt: Path) -> SavedCheckpoint | None:
    """Return the checkpoint from which this attempt resumes, None if it starts from the beginning."""
    try:
        told = json.loads((attempt / RESUME_FILE).read_text())
        return SavedCheckpoint.found(run_folder_of(attempt) / told["path"], told["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
