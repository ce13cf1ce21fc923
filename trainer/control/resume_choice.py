"""The checkpoint from which an attempt resumes. Imports Django, never torch."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from runs.models import ORIGIN_ATTEMPT, Branch, Checkpoint, Run
from runs.recording.checkpoints import forget_checkpoints
from runs.recording.record_side.lineage import NoSuchCheckpoint, lineage
from steersman.agent.folders import host_name, run_folder
from steersman.checkpoints.kept import FOLDER_NAME
from steersman.files.checkpoint import Damaged, is_whole, remove_checkpoint, verify_checkpoint
from steersman.files.retention import Kept, dropped
from steersman.messages.reports import Line


def newest(run: Run, lines: list[Line]) -> Checkpoint | None:
    """Return the newest valid checkpoint; append a line to `lines` for each skipped one."""
    for checkpoint in lineage(run):
        if not checkpoint.has_manifest:
            continue  # the script that wrote it finds it itself
        try:
            verify_checkpoint(checkpoint_folder(checkpoint), checkpoint.sha256)
        except Damaged as error:
            text = f"The checkpoint at step {checkpoint.step} is damaged or gone ({error}): it is skipped."
            lines.append(Line(text, "warning"))
        else:
            return checkpoint
    return None


def chosen(run: Run, wanted: str) -> Checkpoint:
    """Return the checkpoint of a run with this id, name or step, the newest if several can be resumed from.

    Raises `NoSuchCheckpoint` if there is none, or it does not verify.
    """
    found = Checkpoint.objects.filter(run=run).order_by("-has_manifest", "-id")
    number = int(wanted) if wanted.isdecimal() else None
    checkpoint = (
        found.filter(pk=number).first() or found.filter(step=number).first() if number is not None else None
    ) or found.filter(name=wanted).first()
    if checkpoint is None:
        known = ", ".join(f"{each.pk} ({each.name}, step {each.step})" for each in found[:10])
        raise NoSuchCheckpoint(f"run {run.pk} has no checkpoint {wanted}; it has {known or 'none'}.")
    if not checkpoint.has_manifest:
        raise NoSuchCheckpoint(
            f"the checkpoint {checkpoint.pk} ({checkpoint.name}, step {checkpoint.step}) was written by the script "
            "itself, and only the script can read it; choose one that run.save_checkpoint() wrote, or leave --from "
            "out."
        )
    try:
        verify_checkpoint(checkpoint_folder(checkpoint), checkpoint.sha256)
    except Damaged as error:
        raise NoSuchCheckpoint(
            f"the checkpoint {checkpoint.pk} ({checkpoint.name}, step {checkpoint.step}) cannot be used "
            f"({error}); choose another one, or leave --from out."
        ) from None
    return checkpoint


def remove_unfinished(run: Run, lines: list[Line]) -> None:
    """Remove the remains of saves and removals that were killed; no worker of this run may be alive.

    Files that a script has written there, or reported as its own, stay. Missing checkpoints of attempts on this host
    are removed from the list; a line in `lines` reports that.
    """
    attempts = run_folder(settings.STEERSMAN_DATA, run.pk) / "attempts"
    own = {checkpoint_folder(each) for each in Checkpoint.objects.filter(run=run, has_manifest=False)}
    for folder in _places(run):
        if FOLDER_NAME.fullmatch(folder.name) and not is_whole(folder) and folder not in own:
            _remove(folder, lines)
    gone = [
        checkpoint
        for checkpoint in Checkpoint.objects.filter(run=run).order_by("pk")
        if (attempts / str(checkpoint.attempt)).is_dir() and not checkpoint_folder(checkpoint).exists()
    ]
    for checkpoint in gone:
        text = f"The checkpoint at step {checkpoint.step} has no files any more, and was removed from the list."
        lines.append(Line(text, "warning"))
    forget_checkpoints(run.pk, run.attempt, gone)


def _places(run: Run) -> list[Path]:
    """Return the folders that contain checkpoints of a run on this host, complete or not."""
    found = (run_folder(settings.STEERSMAN_DATA, run.pk) / "attempts").glob("*/checkpoints/*")
    return [folder for folder in found if folder.is_dir() and not folder.is_symlink()]


def _remove(folder: Path, lines: list[Line]) -> None:
    try:
        remove_checkpoint(folder)
    except OSError as error:
        text = f"The old checkpoint {folder.name} could not be removed: {error.strerror}."
        lines.append(Line(text, "warning"))


def forget_older(run: Run, keep: Checkpoint | None, lines: list[Line]) -> None:
    """Remove the checkpoints of earlier attempts here that no rule keeps; never `keep`."""
    rows = Checkpoint.objects.filter(run=run, has_manifest=True).order_by("attempt", "id")
    found = {checkpoint_folder(each): each for each in rows}
    # A training chooses the path in a row, so it may be any path: only folders within the attempt's folder are removed.
    places = set(_places(run))
    here = [
        Kept(folder, each.reason, each.created_at.timestamp(), each.step)
        for folder, each in found.items()
        if folder in places
    ]
    removed = [gone.folder for gone in dropped(here) if keep is None or found[gone.folder].pk != keep.pk]
    forget_checkpoints(run.pk, run.attempt, [found[folder] for folder in removed])
    for folder in removed:
        _remove(folder, lines)


def is_origin(checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint is that of another run at which this run, a branch, began."""
    return checkpoint.attempt == ORIGIN_ATTEMPT


def lost_origin(run: Run) -> str:
    """Return why a branch without a checkpoint cannot start (it would begin at step 1), "" if the run is no branch."""
    branch = Branch.objects.filter(run=run).first()
    if branch is None:
        return ""
    if branch.host != host_name():
        return (
            f"run {run.pk} is a branch, and the checkpoint that it begins at lies on another host: start it there, or "
            f"copy {run_folder(settings.STEERSMAN_DATA, run.pk)} here."
        )
    return (
        f"run {run.pk} is a branch, and the checkpoint that it begins at (step {branch.step}) is gone or damaged: "
        f"branch run {branch.source_number} again."
    )


def checkpoint_folder(checkpoint: Checkpoint) -> Path:
    return run_folder(settings.STEERSMAN_DATA, checkpoint.run_id) / checkpoint.path
