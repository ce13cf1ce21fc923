"""What the next attempt of a launch continues from: the newest whole checkpoint on this host."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from steersman.agent.journals.tail import LARGEST_READ_BYTES
from steersman.agent.launch.attempt_folder import ResumeFrom
from steersman.agent.remote.launches import Removed
from steersman.checkpoints.kept import CHECKPOINTS, FOLDER_NAME
from steersman.files.changed_knobs import ChangedKnobs, after_roll_back, after_set_knob, read_changed_knobs
from steersman.files.checkpoint import (
    MANIFEST,
    Damaged,
    hashed,
    is_whole,
    read_manifest,
    remove_checkpoint,
    verify_checkpoint,
)
from steersman.files.journal import JournalReader
from steersman.files.mailbox import Mailbox
from steersman.files.retention import Kept, dropped
from steersman.messages.reports import Line
from steersman.records.kinds import OutcomeRecord
from steersman.starting.messages import read_place

SET_KNOB, ROLL_BACK = "set_knob", "roll_back"


def newest_checkpoint(launch: Path, lines: list[Line]) -> tuple[ResumeFrom | None, ChangedKnobs]:
    """Return the newest valid checkpoint of all attempts of a launch, and the values that knobs had in it.

    Adds a line to `lines` for each that was skipped. Folders that a killed save has left are removed: no training of
    the launch may be alive.
    """
    for folder in _folders(launch):
        if FOLDER_NAME.fullmatch(folder.name) and not is_whole(folder):
            _remove(folder, lines)
    for folder in checkpoints_of(launch):
        sha256 = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
        try:
            manifest = verify_checkpoint(folder, sha256)
        except Damaged as error:
            text = f"The checkpoint {folder.name} is damaged ({error}): it is skipped."
            lines.append(Line(text, "warning"))
        else:
            return ResumeFrom(folder, sha256), manifest.knobs
    return None, {}


def remove_older(launch: Path, keep: Path | None, lines: list[Line]) -> Removed:
    """Remove the checkpoints of all attempts of a launch that no rule keeps, but never `keep`; return which.

    The rules are those of one attempt (`steersman.files.retention`): a run keeps no more, however often it is started.
    No training of the launch may be alive.
    """
    kept = []
    # The oldest first, as the rules take them.
    for folder in reversed(checkpoints_of(launch)):
        # Attempt 0 is the checkpoint of another run at which the launch began.
        if not FOLDER_NAME.fullmatch(folder.name) or folder.parent.parent.name == "0":
            continue
        with suppress(OSError, Damaged):
            manifest = read_manifest(folder, hashed(folder / MANIFEST).sha256)
            kept.append(Kept(folder, manifest.reason, (folder / MANIFEST).stat().st_mtime, manifest.step))
    removed = [each.folder for each in dropped(kept) if each.folder != keep]
    told = []
    for folder in removed:
        attempt = folder.parent.parent
        _remove(folder, lines)
        place = read_place(attempt)
        if place is not None and not is_whole(folder):
            told.append(f"../{place.attempt}/{CHECKPOINTS}/{folder.name}")
    return Removed(told)


def checkpoints_of(launch: Path) -> list[Path]:
    """Return the whole checkpoints of all attempts of a launch, the newest first."""
    return sorted((path for path in _folders(launch) if is_whole(path)), key=_saved_at, reverse=True)


def _folders(launch: Path) -> list[Path]:
    return [
        path for path in (launch / "attempts").glob(f"*/{CHECKPOINTS}/*") if path.is_dir() and not path.is_symlink()
    ]


def knobs_after(attempt: Path, before: ChangedKnobs) -> ChangedKnobs:
    """Return the knobs for the attempt after `attempt`: those of its newest checkpoint, `before`, or those with which
    it began, with the changes of the commands that it applied.

    Segments of the journal that are stored are gone, but each has 64 MiB: a checkpoint is rarely older than the last.
    """
    changed = before or read_changed_knobs(attempt) or {}
    mailbox = Mailbox(attempt)
    commands = {command.id: command.arguments for command in mailbox.commands()}
    mailbox.close()
    for outcome in _outcomes(attempt):
        arguments = commands.get(outcome.id)
        if outcome.state != "applied" or arguments is None:
            continue
        knob, group = str(arguments.get("knob") or ""), str(arguments.get("group") or "")
        if outcome.command == SET_KNOB:
            changed = after_set_knob(changed, knob, group, outcome.new)
        elif outcome.command == ROLL_BACK and isinstance(outcome.effective, dict):
            changed = after_roll_back(changed, outcome.effective, knob)
    return changed


def _outcomes(attempt: Path) -> Iterator[OutcomeRecord]:
    """Yield the outcomes that are still in the journal of rank 0, which records them for all ranks."""
    for path in sorted(attempt.glob("journal-0000-*.bin")):
        reader = JournalReader(path)
        while records := reader.read(LARGEST_READ_BYTES, ended=True):
            yield from (record for record in records if isinstance(record, OutcomeRecord))
        reader.close()


def _saved_at(folder: Path) -> tuple[int, int]:
    """Return when a checkpoint was saved: the number of its attempt, and the time of its manifest, in nanoseconds."""
    return int(folder.parent.parent.name), (folder / MANIFEST).stat().st_mtime_ns


def _remove(folder: Path, lines: list[Line]) -> None:
    try:
        remove_checkpoint(folder)
    except OSError as error:
        lines.append(Line(f"The old checkpoint {folder.name} could not be removed: {error.strerror}.", "warning"))
