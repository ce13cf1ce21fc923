"""Deleting a run: counts what will be deleted, then deletes its rows and files."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Sum
from django.utils.translation import gettext as _

from runs.audit.entries import record
from runs.copies.removals import remove_copies
from runs.models import AuditKind, Checkpoint, Chunk, Command, EpochMetric, Run, StoredEvent
from runs.pruning.space import give_back
from runs.series.storage import tail
from steersman.files.locks import try_lock
from steersman.run import worker_lock_path

logger = logging.getLogger(__name__)

# Greater than the number of any event.
LAST_SEQ = 2**63 - 1
# A person waits for the page; `manage.py watch` frees the remaining space.
GIVE_BACK_WITHIN_S = 1.0


class NotDeletable(Exception):
    """The run is live; the text is a sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class DeletionCounts:
    """The numbers of rows that are deleted with runs. `files_bytes` is the size of their folders here, with
    checkpoints.
    """

    epochs: int
    points: int
    events: int
    commands: int
    checkpoints: int
    checkpoint_bytes: int
    files_bytes: int


def count_deletion(run_ids: list[int]) -> DeletionCounts:
    """Count the rows that are deleted with the runs; the number of queries does not depend on their size."""
    checkpoints = Checkpoint.objects.filter(run__in=run_ids).aggregate(number=Count("pk"), size=Sum("size_bytes"))
    return DeletionCounts(
        epochs=EpochMetric.objects.filter(run__in=run_ids).count(),
        points=(Chunk.objects.filter(series__run__in=run_ids).aggregate(total=Sum("count"))["total"] or 0)
        + sum(len(columns.steps) for run_id in run_ids for columns in tail(run_id, LAST_SEQ).values()),
        events=StoredEvent.objects.filter(run__in=run_ids).count(),
        commands=Command.objects.filter(run__in=run_ids).count(),
        checkpoints=checkpoints["number"],
        checkpoint_bytes=checkpoints["size"] or 0,
        files_bytes=sum(_size(_runs_folder() / str(run_id)) for run_id in run_ids),
    )


def delete_run(run_id: int) -> None:
    """Delete a run with all its rows, and its folder after the commit.

    Raises `NotDeletable` with a sentence if it is live, `Run.DoesNotExist` if there is no such run.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update(of=("self",)).select_related("project").get(pk=run_id)
        check_deletable(run)
        record(AuditKind.RUN_DELETED, project=run.project, run=run_id, what=run.name)
        run.delete()
        transaction.on_commit(lambda: remove_files(run_id), robust=True)
        transaction.on_commit(lambda: remove_copies(run_id), robust=True)
        transaction.on_commit(lambda: give_back(GIVE_BACK_WITHIN_S), robust=True)


def check_deletable(run: Run) -> None:
    """Raise `NotDeletable` with a sentence if an attempt holds the run, or its worker is alive on this machine."""
    if run.is_live:
        raise NotDeletable(
            _("Run %(run)s is %(state)s: stop it first, then delete it.")
            % {"run": run, "state": run.get_state_display()}
        )
    folder = _runs_folder() / str(run.pk) / "attempts" / str(run.attempt)
    if not folder.is_dir():
        return
    lock = try_lock(worker_lock_path(folder, 0))
    if lock is None:
        raise NotDeletable(
            _("A training process of run %(run)s is still running on this machine: end it first, then delete the run.")
            % {"run": run}
        )
    lock.release()


def remove_files(run_id: int) -> bool:
    """Remove the run's folder on this machine, without following symbolic links; return whether it is gone."""
    try:
        parent = os.open(_runs_folder(), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    except OSError as error:
        logger.warning(
            "the files of the deleted run %d could not be removed from %s (%s): remove them by hand",
            run_id,
            _runs_folder(),
            error,
        )
        return False
    try:
        if stat.S_ISLNK(os.stat(str(run_id), dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(str(run_id), dir_fd=parent)
        else:
            shutil.rmtree(str(run_id), dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:
        logger.warning(
            "files of the deleted run %d could not be removed from %s (%s): remove them by hand",
            run_id,
            _runs_folder(),
            error,
        )
        return False
    finally:
        os.close(parent)
    return True


def _runs_folder() -> Path:
    return Path(settings.STEERSMAN_DATA) / "runs"


def _size(folder: Path) -> int:
    """Return the number of bytes of the files below `folder`; a link counts only itself."""
    total = 0
    for place, _folders, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total
