"""What the next attempt of a launch continues from: the newest whole checkpoint that lies on this host."""

from __future__ import annotations

import hashlib
from pathlib import Path

from steersman.agent.launch.attempt_folder import ResumeFrom
from steersman.checkpoints.kept import CHECKPOINTS, FOLDER_NAME
from steersman.files.changed_knobs import ChangedKnobs
from steersman.files.checkpoint import MANIFEST, Damaged, is_whole, remove_checkpoint, verify_checkpoint
from steersman.messages.reports import Line


def newest_checkpoint(launch: Path, lines: list[Line]) -> tuple[ResumeFrom | None, ChangedKnobs]:
    """Return the newest valid checkpoint of all attempts of a launch, and the values that knobs had in it.

    Adds a line to `lines` for each that was skipped. Folders that a killed save has left are removed: no training of
    the launch may be alive.
    """
    found = [
        path for path in (launch / "attempts").glob(f"*/{CHECKPOINTS}/*") if path.is_dir() and not path.is_symlink()
    ]
    for folder in found:
        if FOLDER_NAME.fullmatch(folder.name) and not is_whole(folder):
            _remove(folder, lines)
    whole = sorted((path for path in found if is_whole(path)), key=_saved_at, reverse=True)
    for folder in whole:
        sha256 = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
        try:
            manifest = verify_checkpoint(folder, sha256)
        except Damaged as error:
            text = f"The checkpoint {folder.name} is damaged ({error}): it is skipped."
            lines.append(Line(text, "warning"))
        else:
            return ResumeFrom(folder, sha256), manifest.knobs
    return None, {}


def _saved_at(folder: Path) -> tuple[int, int]:
    """Return when a checkpoint was saved: the number of its attempt, and the time of its manifest, in nanoseconds."""
    return int(folder.parent.parent.name), (folder / MANIFEST).stat().st_mtime_ns


def _remove(folder: Path, lines: list[Line]) -> None:
    try:
        remove_checkpoint(folder)
    except OSError as error:
        lines.append(
            Line(f"The unfinished checkpoint {folder.name} could not be removed: {error.strerror}.", "warning")
        )
