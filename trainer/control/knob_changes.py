"""The last values of a run's knobs, or those at its branching point, with which the next attempt begins."""

from __future__ import annotations

from pathlib import Path

from runs.models import ORIGIN_ATTEMPT, BranchChange, Checkpoint, Command, CommandState, Run
from runs.protocol.commands import RollBack, SetKnob
from runs.replaying.knob_values import values_after
from steersman.agent.folders import attempt_folder
from steersman.files.changed_knobs import EVERY_GROUP, ChangedKnobs, read_changed_knobs
from steersman.files.checkpoint import Damaged, read_manifest
from trainer.control.resume_choice import checkpoint_folder, is_origin


def knobs_to_begin_with(run: Run, data: Path, chosen: Checkpoint | None) -> ChangedKnobs:
    """Return the changes that the next attempt of a recipe's run makes to the knobs in its checkpoint.

    The newest checkpoint may be older than the last change. A `chosen` checkpoint keeps its knobs; the one at which a
    branch began gets the changes of the branch.
    """
    if chosen is None:
        return changed_knobs(run, data)
    return of_branch(run) if is_origin(chosen) else {}


def changed_knobs(run: Run, data: Path) -> ChangedKnobs:
    """Return the last values that commands gave to knobs before the next attempt of `run`.

    An attempt that started over began without changes, so earlier ones are left out. The first attempt of a branch
    begins with the result of `of_branch`.
    """
    began_at, changed = 0, of_branch(run)
    for number in range(run.attempt, 0, -1):
        told = read_changed_knobs(attempt_folder(data, run.pk, number))
        if told is not None:
            began_at, changed = number, told
            break
    applied = Command.objects.filter(
        run_id=run.pk, kind__in=(SetKnob.kind, RollBack.kind), state=CommandState.APPLIED, attempt__gte=began_at
    )
    return values_after(applied.order_by("applied_at", "step", "sent_at"), changed)


def of_branch(run: Run) -> ChangedKnobs:
    """Return the first values of a branch: its changes and, for a script, all other values at the checkpoint.

    A recipe has the rest from its checkpoint. Empty if `run` is not a branch.
    """
    changed = {} if run.recipe_id else _at_origin(run)
    changes = BranchChange.objects.filter(branch__run=run)
    knobs = {row["name"] for row in run.recipe.knobs} if run.recipe else set()
    # A parameter that is a knob is built with its new value, and would then get the one in the checkpoint.
    for change in changes.filter(kind=BranchChange.Kind.PARAMETER, name__in=knobs):
        changed[change.name] = {EVERY_GROUP: change.new}
    of_knobs = list(changes.filter(kind=BranchChange.Kind.KNOB))
    for name in {change.name for change in of_knobs}:
        given = {change.group: change.new for change in of_knobs if change.name == name}
        changed[name] = given if EVERY_GROUP in given else changed.get(name, {}) | given
    return changed


def _at_origin(run: Run) -> ChangedKnobs:
    checkpoint = Checkpoint.objects.filter(run=run, attempt=ORIGIN_ATTEMPT).first()
    if checkpoint is None:
        return {}
    try:
        return read_manifest(checkpoint_folder(checkpoint), checkpoint.sha256).knobs
    except Damaged:
        return {}
