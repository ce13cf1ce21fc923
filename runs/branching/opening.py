"""Opens a branch: a run that begins at a checkpoint of another run. The source continues unchanged."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from runs.branching.changes import Changed, changed
from runs.branching.origin import Staged, found, staged
from runs.branching.records import best_of, log_branch, store_branch
from runs.branching.requests import Author, BranchRequest, CannotBranch, Start
from runs.models import LONGEST_NAME, Branch, BranchChange, Checkpoint, Command, Run
from runs.protocol.commands import BRANCH, LARGEST_REASON_CHARACTERS
from runs.protocol.storable_text import UNSTORABLE
from runs.recording import queue_order
from runs.recording.queue import NotQueueable, enqueue
from steersman.files.attempt import origin_path

# Another process may open a branch under the same id, or remove the checkpoint, at the same moment.
TRIES = 3


def open_branch(source: Run, request: BranchRequest, author: Author) -> tuple[Run, bool]:
    """Return the requested branch, and whether this call opened it: the same id returns the same branch.

    `author` must be allowed to command `source`. Raises `CannotBranch`.
    """
    _check_texts(request)
    if (known := _known(source, request)) is not None:
        return known, False
    checkpoint = found(source, request.checkpoint)
    with staged(checkpoint) as copy:
        differing = changed(source, copy.manifest.knobs, request)
        for left in reversed(range(TRIES)):
            try:
                return _opened(source, checkpoint, copy, differing, request, author), True
            except NotQueueable as error:
                raise CannotBranch(str(error), "start") from error
            except OSError as error:
                text = _("The checkpoint could not be put into the folder of the branch (%(why)s): try again.")
                raise CannotBranch(text % {"why": error.strerror or str(error)}) from error
            except IntegrityError:
                if (known := _known(source, request)) is not None:
                    return known, False
                if not left:
                    raise
    raise AssertionError("not reached")


def _check_texts(request: BranchRequest) -> None:
    limits = {"name": (request.name, LONGEST_NAME), "reason": (request.reason, LARGEST_REASON_CHARACTERS)}
    for name, (text, longest) in limits.items():
        if len(text) > longest:
            raise CannotBranch(_("Give %(name)s as text of at most %(longest)d characters.")
                               % {"name": name, "longest": longest}, name)  # fmt: skip
        if UNSTORABLE.search(text):
            raise CannotBranch(_("%(name)s contains an invalid character: remove it.") % {"name": name}, name)


def _known(source: Run, request: BranchRequest) -> Run | None:
    """Return the branch that was opened under the id of `request`.

    Raises `CannotBranch` if another source has the id.
    """
    command = Command.objects.filter(pk=request.id).first()
    if command is None:
        return None
    opened = Run.objects.filter(pk=command.arguments.get("run", 0)).first() if command.kind == BRANCH else None
    if command.run_id != source.pk or opened is None:
        raise CannotBranch(_("This id is already used by another command: choose another id."), "id")
    return opened


def _opened(
    source: Run, checkpoint: Checkpoint, copy: Staged, differing: Changed, request: BranchRequest, author: Author
) -> Run:
    """Store the branch with its copy of the checkpoint, all or nothing."""
    run: Run | None = None
    try:
        with transaction.atomic():
            if request.start == Start.NOW:
                # Locked before the run, in the same order as everywhere else.
                queue_order.lock_line()
            source = Run.objects.select_for_update().get(pk=source.pk)
            run = _run(source, checkpoint, copy, differing, request, author)
            branch = _record(run, source, checkpoint, differing)
            log_branch(branch, author, id=request.id, start=request.start, reason=request.reason)
            copy.move_to(run.pk, origin_path(checkpoint.step))
            if request.start != Start.NO:
                enqueue(run.pk, branch.host)
                run.refresh_from_db()
            if request.start == Start.NOW:
                queue_order.move_to_front(run)
    except BaseException:
        if run is not None and run.pk is not None:
            _take_back(run.pk, copy, origin_path(checkpoint.step))
        raise
    return run


def _take_back(run_id: int, copy: Staged, path: str) -> None:
    """Move the copy back to where it was staged, and remove the folder of a run that was not created."""
    folder = Path(settings.STEERSMAN_DATA) / "runs" / str(run_id)
    if Run.objects.filter(pk=run_id).exists():
        return
    if (folder / path).exists() and not copy.folder.exists():
        (folder / path).rename(copy.folder)
    shutil.rmtree(folder, ignore_errors=True)


def _run(
    source: Run, checkpoint: Checkpoint, copy: Staged, differing: Changed, request: BranchRequest, author: Author
) -> Run:
    """Create the run with the configuration of its source, at the step of the checkpoint."""
    name = request.name.strip() or _("%(name)s from step %(step)d") % {"name": source.name, "step": checkpoint.step}
    steps = source.steps_per_epoch if source.recipe_id else None
    is_whole = not steps or checkpoint.step % steps == 0
    # A checkpoint of a recipe names the epoch of its last step.
    epoch = checkpoint.epoch if source.recipe_id is None or is_whole else checkpoint.epoch - 1
    best = best_of(source, checkpoint)
    # The changes may change the length: the training reports the new total.
    planned = {} if differing.changes else {
        each: getattr(source, each) for each in ("total_steps", "total_epochs", "steps_per_epoch")
    }  # fmt: skip
    return Run.objects.create(
        project_id=source.project_id,
        recipe_id=source.recipe_id,
        name=name[:LONGEST_NAME],
        parameters=differing.parameters,
        device=source.device,
        seed=source.seed,
        deterministic=source.deterministic,
        ranks=source.ranks,
        restarts=source.restarts,
        gpu_memory_mib=source.gpu_memory_mib,
        extra_epochs=source.extra_epochs,
        created_by_id=author.user_id,
        step=copy.manifest.step,
        epoch=max(0, epoch),
        best_metric=best.metric,
        best_metric_name=best.metric_name,
        best_epoch=best.epoch,
        **planned,
    )


def _record(run: Run, source: Run, checkpoint: Checkpoint, differing: Changed) -> Branch:
    """Store the source of the run, and the copy of the checkpoint as its first checkpoint."""
    still_there = Checkpoint.objects.filter(pk=checkpoint.pk).exists()
    branch = Branch(
        run=run,
        source=source,
        source_number=source.pk,
        source_name=source.name,
        checkpoint_id=checkpoint.pk if still_there else None,
        checkpoint_name=checkpoint.name,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        host=socket.gethostname(),
        best_metric=run.best_metric,
        best_metric_name=run.best_metric_name,
        best_epoch=run.best_epoch,
    )
    store_branch(branch, checkpoint.sha256, checkpoint.size_bytes, checkpoint.metrics)
    BranchChange.objects.bulk_create(
        BranchChange(branch=branch, kind=each.kind, name=each.name, group=each.group, old=each.old, new=each.new)
        for each in differing.changes
    )
    return branch
