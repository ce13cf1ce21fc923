"""The checkpoints that a training has saved itself, and the choice of one when a rollback takes effect.

Every rank chooses by itself from the same folder, so that nothing has to be sent between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steersman.checkpoints.kept import CHECKPOINTS, place_of
from steersman.checkpoints.putting_back import verified
from steersman.files.attempt import run_folder_of
from steersman.files.checkpoint import MANIFEST, Damaged, Manifest, hashed, is_whole, read_manifest
from steersman.records.posted import RollBackArguments
from steersman.records.typed_json import Json

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """A verified checkpoint to roll back to: the arguments that name it, its folder, and the knobs in it."""

    arguments: RollBackArguments
    folder: Path
    knobs: Mapping[str, Mapping[str, Any]]

    def as_arguments(self) -> dict[str, Json]:
        """Return the checkpoint as the arguments of a handler."""
        names = ("checkpoint", "path", "sha256", "step", "epoch", "has_manifest")
        return {name: getattr(self.arguments, name) for name in names} | {"folder": str(self.folder)}


class OwnCheckpoints:
    """The checkpoints of one attempt on its current line: those that a rollback abandoned are left out."""

    def __init__(self) -> None:
        # Where each whole checkpoint was saved: its step, and how many had been saved there.
        self._there: set[Place] = set()
        self._abandoned: set[Place] = set()
        self._lowest_step: int | None = None

    def found(self, attempt: Path, arguments: RollBackArguments) -> FoundCheckpoint:
        """Return the checkpoint that is named or wanted, verified; `attempt` is the folder of the attempt.

        Raises `Damaged` with a sentence if there is none, or it is damaged.
        """
        arguments = self._chosen(attempt, arguments)
        folder = run_folder_of(attempt) / arguments.path
        manifest = verified(folder, arguments)
        return FoundCheckpoint(arguments, folder, manifest.knobs if manifest is not None else {})

    def _chosen(self, attempt: Path, arguments: RollBackArguments) -> RollBackArguments:
        folders = dict(_whole(attempt / CHECKPOINTS))
        self._there = set(folders)
        if not arguments.wanted:
            return arguments
        for place in sorted(folders.keys() - self._abandoned, reverse=True):
            found = _if_wanted(folders[place], place, arguments.wanted)
            if found is not None:
                manifest, sha256 = found
                path = folders[place].relative_to(run_folder_of(attempt)).as_posix()
                return replace(
                    arguments, checkpoint=manifest.name, path=path, sha256=sha256, step=manifest.step,
                    epoch=manifest.epoch, has_manifest=True,
                )  # fmt: skip
        if arguments.path and (self._lowest_step is None or arguments.step <= self._lowest_step):
            return arguments
        raise Damaged(f"This training has no checkpoint {arguments.wanted} to roll back to at this step.")

    def abandon_after(self, step: int) -> None:
        """Leave out what was saved after `step` until now: the training was rolled back to there."""
        self._abandoned |= {place for place in self._there if place[0] > step}
        self._lowest_step = step if self._lowest_step is None else min(step, self._lowest_step)


def _whole(folder: Path) -> Iterator[tuple[Place, Path]]:
    if not folder.is_dir():
        return
    for each in folder.iterdir():
        place = place_of(each.name)
        if place is not None and is_whole(each):
            yield place, each


def _if_wanted(folder: Path, place: Place, wanted: str) -> tuple[Manifest, str] | None:
    """Return the manifest of a checkpoint and its SHA-256 if it is the wanted one, None otherwise."""
    step = int(wanted) if wanted.isascii() and wanted.isdecimal() else None
    if step is not None and step != place[0]:
        return None
    try:
        sha256 = hashed(folder / MANIFEST).sha256
        manifest = read_manifest(folder, sha256)
    except (OSError, Damaged):
        return None
    is_it = step is not None or wanted == "newest" or wanted == (manifest.reason if wanted == "best" else manifest.name)
    return (manifest, sha256) if is_it else None
