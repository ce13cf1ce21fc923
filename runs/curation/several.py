"""One action on several runs: each run is changed separately, so that a refusal does not affect the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import uuid4

from django.utils.translation import gettext as _

from runs.access.roles import Caller, Viewer, operators_only
from runs.commands.record import record_as
from runs.curation.archive import NotArchivable, archive, unarchive
from runs.curation.deletion import NotDeletable, delete_run
from runs.curation.tags import BadTag, change_tags
from runs.models import CommandState, Role, Run
from runs.protocol.commands import Request, Stop
from steersman.marked_text import MarkedText

MOST_RUNS = 200


class Action(StrEnum):
    TAG = "tag"
    STOP = "stop"
    ARCHIVE = "archive"
    UNARCHIVE = "unarchive"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class RequestedAction:
    """An action on several runs. `add` and `remove` are names of tags, for `TAG`; `reason` is stored with a stop."""

    action: Action
    add: Sequence[str] = ()
    remove: Sequence[str] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that was left unchanged. `name` is empty if the caller may not see the run."""

    run: int
    name: str
    why: str


@dataclass(slots=True)
class Outcome:
    done: list[int] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


class Refused(Exception):
    """The run is left unchanged; the text is a sentence for the caller."""


def do_to_each(run_ids: Iterable[int], requested: RequestedAction, caller: Caller) -> Outcome:
    """Apply the action to each of the runs that the caller may change, in order."""
    wanted = list(dict.fromkeys(run_ids))
    visible = {run.pk: run for run in caller.runs().select_related("project").filter(pk__in=wanted)}
    outcome = Outcome()
    for number in wanted:
        run = visible.get(number)
        try:
            _do(run, requested, caller)
        except (Refused, BadTag, NotArchivable, NotDeletable) as reason:
            outcome.left_out.append(LeftOut(number, run.name if run else "", str(reason)))
        except Run.DoesNotExist:
            outcome.left_out.append(LeftOut(number, "", _no_such_run()))
        else:
            outcome.done.append(number)
    return outcome


def _do(run: Run | None, requested: RequestedAction, caller: Caller) -> None:
    viewer = caller.viewer(run) if run is not None else None
    if run is None or viewer is None:
        raise Refused(_no_such_run())
    if not viewer.may_command:
        raise Refused(operators_only())
    if requested.action is Action.DELETE and viewer.role != Role.OWNER:
        raise Refused(_("Only owners of the project can delete its runs."))
    _DOING[requested.action](run, requested, viewer)


def _no_such_run() -> str:
    return _("There is no such run, or you are not a member of its project.")


def _stop(run: Run, requested: RequestedAction, viewer: Viewer) -> None:
    command = record_as(run.pk, Request(id=uuid4(), command=Stop(), reason=requested.reason), viewer)
    command.refresh_from_db()
    if command.state == CommandState.REFUSED:
        raise Refused(MarkedText(command.outcome).translated(_))


_DOING: dict[Action, Callable[[Run, RequestedAction, Viewer], object]] = {
    Action.TAG: lambda run, requested, viewer: change_tags(run.pk, requested.add, requested.remove),
    Action.STOP: _stop,
    Action.ARCHIVE: lambda run, requested, viewer: archive(run.pk),
    Action.UNARCHIVE: lambda run, requested, viewer: unarchive(run.pk),
    Action.DELETE: lambda run, requested, viewer: delete_run(run.pk),
}
