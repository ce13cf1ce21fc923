"""Finds the checkpoints of an attempt that the worker's retention rule, or the script, has removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from steersman.files.checkpoint import is_whole
from steersman.records.kinds import CheckpointRecord
from steersman.records.record import Record


class KeptCheckpoints:
    """Checks the checkpoints of an attempt whenever a new one is saved. `known`: see `Attached.checkpoints`.

    `earlier` are the paths of checkpoints of earlier attempts that were removed when this one began.
    """

    def __init__(self, folder: Path, known: Mapping[str, bool], earlier: Iterable[str] = ()) -> None:
        self._folder = folder
        self._known = dict(known)
        self._earlier = list(earlier)

    def removed(self, records: Iterable[Record]) -> list[str]:
        """Return the paths of removed checkpoints; of this attempt, if `records` report a new one, not among them."""
        saved = ""
        for record in records:
            if isinstance(record, CheckpointRecord):
                saved = record.path
                self._known[saved] = record.has_manifest
        if not saved:
            return list(self._earlier)
        return self._earlier + [
            path for path, has_manifest in self._known.items() if path != saved and self._is_gone(path, has_manifest)
        ]

    def forget(self, paths: Iterable[str]) -> None:
        """Forget checkpoints that the record side has forgotten too."""
        for path in paths:
            self._known.pop(path, None)
            if path in self._earlier:
                self._earlier.remove(path)

    @property
    def earlier(self) -> list[str]:
        """Return those of earlier attempts that the record side has not forgotten yet."""
        return list(self._earlier)

    def _is_gone(self, path: str, has_manifest: bool) -> bool:
        place = self._folder / path
        try:
            return not (is_whole(place) if has_manifest else place.exists())
        except ValueError:
            # The path contains NUL, so there is no such file.
            return True
