"""The checkpoint at which a branch begins: finds it, and copies it for the branch."""

from __future__ import annotations

import logging
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from django.conf import settings
from django.utils.translation import gettext as _

from runs.branching.requests import CannotBranch
from runs.models import LARGEST_ID, Checkpoint, Run
from runs.recording.checkpoints import host_of
from runs.recording.record_side.lineage import lineage
from steersman.files.checkpoint import Damaged, Manifest, read_manifest
from steersman.files.checkpoint_copy import copy_checkpoint
from steersman.files.private import make_private

logger = logging.getLogger(__name__)

# On the same file system as the folders of runs, so that a copy can be renamed into one of them.
STAGED = ".branch-"
# Older copies were left behind by killed processes.
LEFT_AFTER_S = 86_400.0
MOST_TOLD = 10


@dataclass(frozen=True, slots=True)
class Staged:
    """A verified copy of a checkpoint that belongs to no run yet."""

    folder: Path
    manifest: Manifest

    def move_to(self, run_id: int, path: str) -> None:
        """Move the copy to `path` in the folder of a run, replacing what a killed process left. Raises `OSError`."""
        target = _runs() / str(run_id) / path
        if target.exists():
            shutil.rmtree(target)
        make_private(target.parent)
        self.folder.rename(target)


def found(source: Run, wanted: str) -> Checkpoint:
    """Return the checkpoint of this id, name or step, or the newest or best one in the current lineage of the run.

    Checkpoints that a rollback abandoned can be chosen too. Raises `CannotBranch`.
    """
    if wanted in ("newest", "best"):
        # Checkpoints that only the script can read come last.
        led = sorted(lineage(source), key=lambda each: not each.has_manifest)
        fitting = [each for each in led if wanted == "newest" or each.reason == "best"]
        checkpoint = fitting[0] if fitting else None
    else:
        rows = Checkpoint.objects.filter(run=source).order_by("abandoned", "-has_manifest", "-id")
        number = int(wanted) if wanted.isascii() and wanted.isdecimal() and len(wanted) < 20 else None
        checkpoint = None
        if number is not None and number <= LARGEST_ID:
            checkpoint = rows.filter(pk=number).first() or rows.filter(step=number).first()
        checkpoint = checkpoint or rows.filter(name=wanted).first()
    if checkpoint is None:
        raise CannotBranch(_none_such(source, wanted))
    if not checkpoint.has_manifest:
        raise CannotBranch(_of_script_alone(checkpoint))
    return checkpoint


def manifest_of(checkpoint: Checkpoint) -> Manifest:
    """Return the manifest of a checkpoint, without checking its other files. Raises `CannotBranch`."""
    if not checkpoint.has_manifest:
        raise CannotBranch(_of_script_alone(checkpoint))
    try:
        return read_manifest(_runs() / str(checkpoint.run_id) / checkpoint.path, checkpoint.sha256)
    except Damaged as error:
        raise CannotBranch(_unusable(checkpoint, str(error))) from error


@contextmanager
def staged(checkpoint: Checkpoint) -> Iterator[Staged]:
    """Copy a checkpoint and verify the copy, which is removed afterwards unless it was moved. Raises `CannotBranch`."""
    runs = make_private(_runs())
    _remove_left(runs)
    folder = runs / f"{STAGED}{uuid4().hex}"
    try:
        try:
            manifest = copy_checkpoint(runs / str(checkpoint.run_id) / checkpoint.path, folder, checkpoint.sha256)
        except Damaged as error:
            raise CannotBranch(_unusable(checkpoint, str(error))) from error
        except OSError as error:
            text = _("The checkpoint could not be copied (%(why)s): free space on the disk, then try again.")
            raise CannotBranch(text % {"why": error.strerror or str(error)}) from error
        yield Staged(folder, manifest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _runs() -> Path:
    return Path(settings.STEERSMAN_DATA) / "runs"


def _none_such(source: Run, wanted: str) -> str:
    rows = Checkpoint.objects.filter(run=source, has_manifest=True).order_by("-id")[:MOST_TOLD]
    known = ", ".join(f"{each.pk} ({each.name}, step {each.step})" for each in rows)
    if not known:
        return _("Run #%(run)d has no checkpoint to branch from: save one first.") % {"run": source.pk}
    text = _("Run #%(run)d has no checkpoint %(wanted)s: choose one of %(known)s.")
    return text % {"run": source.pk, "wanted": wanted, "known": known}


def _of_script_alone(checkpoint: Checkpoint) -> str:
    text = _(
        "The script wrote the checkpoint %(name)s (step %(step)d) itself, and only the script can read it: choose one "
        "that run.save_checkpoint() wrote."
    )
    return text % {"name": checkpoint.name, "step": checkpoint.step}


def _unusable(checkpoint: Checkpoint, why: str) -> str:
    """Return why a checkpoint cannot be used. The text does not reveal the name of another host."""
    places = {"name": checkpoint.name, "step": checkpoint.step, "why": why}
    folder = _runs() / str(checkpoint.run_id) / checkpoint.path
    if not folder.exists() and host_of(checkpoint) not in ("", socket.gethostname()):
        return (
            _(
                "The checkpoint %(name)s (step %(step)d) is on its training host, not on the host of this portal: "
                "run manage.py branch there, or copy the checkpoint here."
            )
            % places
        )
    return _("The checkpoint %(name)s (step %(step)d) cannot be used (%(why)s): choose another one.") % places


def _remove_left(runs: Path) -> None:
    for folder in runs.glob(f"{STAGED}*"):
        try:
            if time.time() - folder.stat().st_mtime > LEFT_AFTER_S:
                shutil.rmtree(folder)
        except OSError as error:
            logger.info("%s could not be removed: %s", folder.name, error)
