"""Which checkpoints of an attempt are gone: the worker's rule of what to keep, or the script, removes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from steersman.files.checkpoint import is_whole
from steersman.records.kinds import CheckpointRecord
from steersman.records.record import Record


class KeptCheckpoints:
    """Looks for the checkpoints of an attempt whenever one more is saved. `known`: see `Attached.checkpoints`."""

    def __init__(self, folder: Path, known: Mapping[str, bool]) -> None:
        self._folder = folder
        self._known = dict(known)

    def removed(self, records: Iterable[Record]) -> list[str]:
        """Return the paths of those that are gone, if `records` report a new one; that one is not among them."""
        saved = ""
        for record in records:
            if isinstance(record, CheckpointRecord):
                saved = record.path
                self._known[saved] = record.has_manifest
        if not saved:
            return []
        return [
            path for path, has_manifest in self._known.items() if path != saved and self._is_gone(path, has_manifest)
        ]

    def forget(self, paths: Iterable[str]) -> None:
        """The record side has forgotten them too."""
        for path in paths:
            self._known.pop(path, None)

    def _is_gone(self, path: str, has_manifest: bool) -> bool:
        place = self._folder / path
        try:
            return not (is_whole(place) if has_manifest else place.exists())
        except ValueError:
            # A NUL in it: there can be no such file.
            return True
