"""Opens the run of another host that begins at a checkpoint of a run of the same project."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from django.utils.translation import gettext as _

from runs.branching.records import best_of, log_branch, store_branch
from runs.branching.requests import Author, Start
from runs.models import LONGEST_NAME, ORIGIN_ATTEMPT, Branch, Checkpoint, Project, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The checkpoint that the training host has, as it tells it: `sha256` is that of its manifest, `run` the number of
    the run that saved it."""

    run: int
    run_name: str
    sha256: str
    name: str
    step: int
    epoch: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What the host asks for its new run; `name` is "" for that of the source with the step."""

    name: str
    ranks: int
    restarts: int
    host: str


def open_elsewhere(project: Project, origin: Origin, planned: Planned, author: Author) -> Run:
    """Create the run, which begins at the step of the checkpoint, and the row of the copy that its host has.

    The host trains already if the portal was away, so this refuses nothing: what has been deleted meanwhile, or belongs
    to another project, is recorded as the host tells it. Call inside a transaction.
    """
    # Locked, so that it is not deleted before the branch refers to it.
    source = Run.objects.select_for_update().filter(pk=origin.run, project=project).first()
    known = Checkpoint.objects.filter(run=source, sha256=origin.sha256).order_by("pk").last() if source else None
    step, epoch = (known.step, known.epoch) if known else (origin.step, origin.epoch)
    source_name = source.name if source else origin.run_name
    name = planned.name or _("%(name)s from step %(step)d") % {"name": source_name, "step": step}
    run = Run(
        project=project,
        name=name[:LONGEST_NAME],
        ranks=planned.ranks,
        restarts=planned.restarts,
        created_by_id=author.user_id,
        step=max(0, step),
        epoch=max(0, epoch),
    )
    if source is not None and known is not None:
        best = best_of(source, known)
        run.best_metric, run.best_metric_name, run.best_epoch = best.metric, best.metric_name, best.epoch
    run.save(force_insert=True)
    branch = Branch(
        run=run,
        source=source,
        source_number=origin.run,
        source_name=source_name,
        checkpoint=known,
        checkpoint_name=known.name if known else origin.name,
        step=step,
        epoch=epoch,
        host=planned.host,
        best_metric=run.best_metric,
        best_metric_name=run.best_metric_name,
        best_epoch=run.best_epoch,
    )
    size_bytes = known.size_bytes if known else origin.size_bytes
    store_branch(branch, origin.sha256, size_bytes, known.metrics if known else {})
    log_branch(branch, author, id=uuid4(), start=Start.NOW)
    return run


def begins_at(run: Run, origin: Origin) -> bool:
    """Return whether a run began at this checkpoint."""
    copies = Checkpoint.objects.filter(run=run, attempt=ORIGIN_ATTEMPT, sha256=origin.sha256)
    return copies.exists() and Branch.objects.filter(run=run, source_number=origin.run).exists()
