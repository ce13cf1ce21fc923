"""Running a run again: a new run with the same configuration and seed, with or without its interventions.

With them, the new run starts paused, has the whole ledger before its first step, and then resumes by itself. A branch
is opened again at the checkpoint of the same place, of its source or of another run that repeats the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

from django.conf import settings
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils.translation import gettext as _

from runs.branching.family import branch_of
from runs.branching.opening import open_branch
from runs.branching.requests import Author, BranchRequest, CannotBranch, Start
from runs.models import LONGEST_NAME, ORIGIN_ATTEMPT, AgentRun, Branch, BranchChange, CommandState, Run
from runs.protocol.commands import Extend, InvalidCommand
from runs.recording import queue_order
from runs.recording.queue import NotQueueable, enqueue, give_to_agent
from runs.replaying.ledger import Saved, ledger_of, origins
from runs.replaying.repeatable import cannot_repeat, code_of
from runs.replaying.replay import name_of_copy, prepare
from steersman.surroundings.source import git_revision, uncommitted_changes

SHOWN_COMMIT = 10


class CannotRunAgain(Exception):
    """The run cannot be run again; the text says why and what to do. `field` names the field with the error."""

    def __init__(self, message: str, field: str = "run") -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class AgainRequest:
    """A request to run a run again.

    `source` is the run of which a branch is opened, None for the one of the branch. The same `id` is the same new run.
    """

    name: str = ""
    with_interventions: bool = True
    start: Start = Start.NO
    source: Run | None = None
    id: UUID = field(default_factory=uuid4)


def run_again(old: Run, request: AgainRequest, author: Author) -> tuple[Run, bool]:
    """Return the new run, and whether this call made it: the same id returns the same run.

    All or nothing. `author` must be allowed to command `old`. Raises `CannotRunAgain`.
    """
    if (known := _known(old, request)) is not None:
        return known, False
    try:
        return _made(old, request, author), True
    except IntegrityError:
        # Another process has made it at the same moment.
        if (known := _known(old, request)) is not None:
            return known, False
        raise


def _known(old: Run, request: AgainRequest) -> Run | None:
    """Return the run that was made for the id of `request`. Raises `CannotRunAgain` if it repeats another run."""
    run = Run.objects.filter(again_id=request.id).first()
    if run is not None and run.cloned_from_id != old.pk:
        raise CannotRunAgain(_("This id is already used by another command: choose another id."), "id")
    return run


def _made(old: Run, request: AgainRequest, author: Author) -> Run:
    branch = branch_of(old)
    if branch is None and request.source is not None:
        raise CannotRunAgain(
            _(
                "This run is not a branch, so a repetition of it cannot begin at a checkpoint of another run: leave "
                "out source."
            ),
            "source",
        )
    try:
        with transaction.atomic():
            if request.start == Start.NOW:
                # Locked before the run, in the same order as everywhere else.
                queue_order.lock_line()
            run = _copy(old, request, author) if branch is None else _branch(old, branch, request, author)
            Run.objects.filter(pk=run.pk).update(
                start_paused=request.with_interventions, cloned_from=old, again_id=request.id
            )
            if request.with_interventions:
                prepare(old, run, author_id=author.user_id, author_name=author.name)
            if request.start != Start.NO:
                enqueue(run.pk, branch_of(run).host if branch else "")  # type: ignore[union-attr]
            run.refresh_from_db()
            if request.start == Start.NOW:
                queue_order.move_to_front(run)
    except NotQueueable as error:
        raise CannotRunAgain(str(error), "start") from error
    except CannotBranch as error:
        raise CannotRunAgain(str(error), "source") from error
    except InvalidCommand as error:
        raise CannotRunAgain(str(error), "interventions") from error
    return run


def remarks(old: Run) -> list[str]:
    """Return what of a run cannot be repeated, and how the code on this host differs from the one that it trained."""
    return [*cannot_repeat(old, ledger_of(old)), *_differing_code(old)]


def script_of(old: Run) -> list[str]:
    """Return the command line of a script as it was started last, [] for a recipe."""
    attempt = old.attempts.exclude(command_line=[]).order_by("-number").first()
    return list(attempt.command_line) if attempt is not None and old.recipe_id is None else []


def compare_address(old: Run, run: Run) -> str:
    """Return the address of the page that compares two runs."""
    return f"{reverse('compare')}?run={old.pk}&run={run.pk}&baseline={old.pk}"


def _copy(old: Run, request: AgainRequest, author: Author) -> Run:
    run = Run.objects.create(
        project_id=old.project_id,
        recipe_id=old.recipe_id,
        name=_name(old, request),
        parameters=old.parameters,
        device=old.device,
        seed=old.seed,
        deterministic=old.deterministic,
        ranks=old.ranks,
        restarts=old.restarts,
        gpu_memory_mib=old.gpu_memory_mib,
        created_by_id=author.user_id,
    )
    asked = AgentRun.objects.filter(run=old).select_related("agent__created_by").first()
    if asked is not None:
        give_to_agent(run, asked.agent, asked.command, asked.values)
    return run


def _name(old: Run, request: AgainRequest) -> str:
    return (request.name.strip() or _("%(name)s again") % {"name": old.name})[:LONGEST_NAME]


def _branch(old: Run, branch: Branch, request: AgainRequest, author: Author) -> Run:
    """Open the branch once more, with the same changes."""
    source, checkpoint = _origin(old, branch, request.source)
    parameters, knobs = _changes(branch)
    asked = BranchRequest(
        checkpoint=str(checkpoint),
        name=_name(old, request),
        parameters=parameters,
        knobs=knobs,
        reason=_("Run #%(run)d again.") % {"run": old.pk},
    )
    run, _is_new = open_branch(source, asked, author)
    # Those that the source had when the branch was opened: it may have more by now.
    own = old.commands.filter(kind=Extend.kind, state=CommandState.APPLIED)
    added = sum(int(command.arguments["epochs"]) for command in own)
    Run.objects.filter(pk=run.pk).update(extra_epochs=max(0, old.extra_epochs - added))
    return run


def _changes(branch: Branch) -> tuple[dict[str, object], dict[str, object]]:
    """Return the changed parameters of a branch, and its changed knobs, by group where groups differ."""
    changes = list(branch.changes.all())
    parameters = {each.name: each.new for each in changes if each.kind == BranchChange.Kind.PARAMETER}
    knobs: dict[str, object] = {}
    for each in changes:
        if each.kind == BranchChange.Kind.KNOB:
            by_group = knobs.setdefault(each.name, {})
            assert isinstance(by_group, dict)
            by_group[each.group] = each.new
    return parameters, knobs


def _origin(old: Run, branch: Branch, asked: Run | None) -> tuple[Run, int]:
    """Return the run and the id of its checkpoint at which a branch is opened again. Raises `CannotRunAgain`.

    If the source was deleted, or has removed the checkpoint, it is the copy that the branch has.
    """
    if asked is None or asked.pk == branch.source_number:
        if branch.source is not None and branch.checkpoint_id is not None:
            return branch.source, branch.checkpoint_id
        asked = old
    origin = asked.checkpoints.filter(attempt=ORIGIN_ATTEMPT).values_list("pk", flat=True).first()
    began = origins([branch.run_id, *([branch.source_id] if branch.source_id is not None else [])])
    began_there = began.get(branch.source_id or 0) == began.get(branch.run_id)
    if origin is not None and (asked.pk == old.pk or began_there):
        return asked, origin
    found = list(_at_same_place(branch, asked)) if branch.source is not None else []
    if not found:
        raise CannotRunAgain(
            _(
                "Run #%(run)d has not reached the checkpoint of step %(step)d yet: wait until it has saved that "
                "checkpoint."
            )
            % {"run": asked.pk, "step": branch.step},
            "source",
        )
    return asked, found[-1]


def _at_same_place(branch: Branch, source: Run) -> Iterator[int]:
    """Yield the ids of the checkpoints of `source` that fit, the best last."""
    assert branch.source is not None
    wanted = ledger_of(branch.source).saved_as(origins([branch.run_id]).get(branch.run_id, ""))
    if wanted is None or not isinstance(wanted.what, Saved):
        return
    there = set(source.checkpoints.values_list("pk", flat=True))
    entries = [each for each in ledger_of(source).entries if each.place == wanted.place]
    saved = [each.what for each in entries if isinstance(each.what, Saved) and each.what.id in there]
    yield from (each.id for each in saved)
    yield from (each.id for each in saved if each.name == wanted.what.name)
    yield from (each.id for each in saved if each.name == name_of_copy(wanted.what.id))


def _differing_code(old: Run) -> Iterator[str]:
    """Yield a sentence if the code on this host is not what a recipe's run trained."""
    trained = code_of(old)
    if old.recipe_id is None or trained is None:
        return
    folder = Path(settings.BASE_DIR)
    now = git_revision(folder)
    if now is None:
        return
    commit, patch = trained
    if now["commit"] != commit:
        yield _(
            "The run trained with commit %(then)s, but the host of this portal has commit %(now)s. Before you start "
            "the new run, check out %(then)s on the host that trains it."
        ) % {"then": commit[:SHOWN_COMMIT], "now": str(now["commit"])[:SHOWN_COMMIT]}
    elif patch != (uncommitted_changes(folder) if now["changed"] else ""):
        yield _(
            "The code of run #%(run)d had uncommitted changes that differ from those on the host of this portal. "
            "Before you start the new run, apply its patch (manage.py patch %(run)d) on the host that trains it."
        ) % {"run": old.pk}
