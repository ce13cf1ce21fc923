"""What is stored of a branch: its source, its first checkpoint, and the entries in the command logs of both runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from django.contrib.auth.models import User
from django.utils import timezone

from runs.access.author_names import distinct_name
from runs.branching.requests import Author, Start
from runs.models import ORIGIN_ATTEMPT, Branch, Checkpoint, Command, CommandState, Run, as_wire
from runs.protocol.commands import BRANCH
from runs.protocol.events import CommandChanged
from runs.recording import feed
from runs.recording.checkpoints import best_metric_name
from steersman.files.attempt import origin_path


@dataclass(frozen=True, slots=True)
class Best:
    """The best epoch of a run up to a step."""

    metric: float | None = None
    metric_name: str = ""
    epoch: int | None = None


def best_of(source: Run, checkpoint: Checkpoint) -> Best:
    """Return the best epoch up to a checkpoint, of the run or of the source that it branched from."""
    before = source.epochs.filter(was_best=True, step__lte=checkpoint.step).order_by("-step", "-pk")
    # An abandoned epoch counts for a checkpoint that the same rollback abandoned.
    row = before.first() if checkpoint.abandoned else before.filter(abandoned=False).first()
    if row is not None:
        name = best_metric_name(row.reported)
        return Best(row.reported.get(name), name, row.epoch)
    branch = Branch.objects.filter(run=source).first()
    return Best() if branch is None else Best(branch.best_metric, branch.best_metric_name, branch.best_epoch)


def store_branch(branch: Branch, sha256: str, size_bytes: int, metrics: dict[str, Any]) -> None:
    """Store a new branch, and the copy of the checkpoint at which it begins."""
    branch.save(force_insert=True)
    Checkpoint.objects.create(
        run=branch.run,
        attempt=ORIGIN_ATTEMPT,
        step=branch.step,
        epoch=branch.epoch,
        name=branch.checkpoint_name,
        path=origin_path(branch.step),
        size_bytes=size_bytes,
        sha256=sha256,
        # No rule removes a named checkpoint; the run may need this one at any time.
        reason=Checkpoint.Reason.NAMED,
        metrics=metrics,
        created_at=timezone.now(),
    )


def log_branch(branch: Branch, author: Author, *, id: UUID, start: Start, reason: str = "") -> None:
    """Write the branch into the command logs of both runs, which the audit reads too, and notify their viewers.

    `id` is that of the entry in the log of the source. A source that was deleted has no log.
    """
    arguments: dict[str, Any] = {
        "source": branch.source_number,
        "run": branch.run_id,
        "checkpoint": branch.checkpoint_name,
        "step": branch.step,
        "changes": [change.as_wire() for change in branch.changes.all()],
        "start": str(start),
    }
    user = User.objects.filter(pk=author.user_id).first() if author.user_id is not None else None
    name = distinct_name(user, branch.run.project_id, author.name) if user else author.name
    now = timezone.now()
    rows = {branch.run_id: uuid5(id, f"branch {branch.run_id}")}
    if branch.source_id is not None:
        rows = {branch.source_id: id, **rows}
    for run_id, command_id in rows.items():
        command = Command.objects.create(
            id=command_id,
            run_id=run_id,
            kind=BRANCH,
            arguments=arguments,
            author_id=author.user_id,
            author_name=name,
            reason=reason,
            state=CommandState.APPLIED,
            sent_at=now,
            applied_at=now,
            step=branch.step,
        )
        feed.append(run_id, CommandChanged(**as_wire(command)))
