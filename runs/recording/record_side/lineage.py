"""The checkpoints in the current lineage of a run, and the choice of one for a rollback. Reads no files."""

from __future__ import annotations

from collections.abc import Iterator

from runs.models import ORIGIN_ATTEMPT, Checkpoint, Run


class NoSuchCheckpoint(Exception):
    """The requested checkpoint does not exist or cannot be used. The text says what to choose instead."""


def lineage(run: Run) -> Iterator[Checkpoint]:
    """Yield the checkpoints in the current lineage of the run, newest first.

    Excluded are checkpoints that earlier attempts saved after the step from which a later one resumed, and those after
    the step of a rollback. The last one of a branch is the checkpoint at which it began.
    """
    limit: int | None = None
    for attempt in run.attempts.order_by("-number"):
        saved = Checkpoint.objects.filter(run=run, attempt=attempt.number, abandoned=False)
        for checkpoint in saved.order_by("-step", "-id"):
            if limit is None or checkpoint.step <= limit:
                yield checkpoint
        if attempt.resumed_step is not None:
            limit = attempt.resumed_step if limit is None else min(limit, attempt.resumed_step)
    yield from Checkpoint.objects.filter(run=run, attempt=ORIGIN_ATTEMPT)


def to_roll_back_to(run: Run, wanted: str, *, by_id: bool = True) -> Checkpoint:
    """Return the checkpoint of this id, name or step, "newest" or "best", on the current line of a run.

    Without `by_id`, a number is a step. The training verifies the checkpoint. Raises `NoSuchCheckpoint`.
    """
    found = list(lineage(run))
    if wanted == "newest":
        # Checkpoints that only the script can read come last.
        fitting = [each for each in found if each.has_manifest] or found
    elif wanted == "best":
        fitting = [each for each in found if each.reason == "best"]
    else:
        number = int(wanted) if wanted.isdecimal() else None
        fitting = [each for each in found if each.pk == number and by_id]
        fitting = fitting or [each for each in found if each.step == number]
        fitting = fitting or [each for each in found if each.name == wanted]
    if not fitting:
        known = ", ".join(f"{each.pk} ({each.name}, step {each.step})" for each in found[:10])
        raise NoSuchCheckpoint(
            f"This run has no checkpoint {wanted} to roll back to: choose one of {known}."
            if known
            else "This run has no checkpoint to roll back to: save one first."
        )
    return fitting[0]
