"""Records commands: turns a request into a stored row. Used by socket, pages, API and command line."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from runs.access.author_names import distinct_name
from runs.access.roles import Viewer, operators_only
from runs.commands.legal_states import ONLY_RECIPES, WITHHELD, legal_states
from runs.models import Command, CommandState, Run, RunState, as_wire
from runs.protocol.causes import stored
from runs.protocol.commands import (
    Cancel,
    Extend,
    KnobValue,
    MoveToFront,
    Note,
    OfQueue,
    Request,
    RollBack,
    RunCommand,
    SetKnob,
    SetPriority,
    StartAnyway,
    Stop,
    Withdraw,
)
from runs.protocol.events import CommandChanged
from runs.recording import feed, queue, queue_order
from runs.recording.lifecycle import LIVE, complete_command
from runs.recording.status import announce_status
from steersman.kinds import SpecError
from steersman.knobs import unknown_knob
from steersman.marked_text import gettext_noop
from steersman.spec import ValueSpec


class NotAllowed(Exception):
    """The viewer's role does not allow commands, or not with this id. `field` is the field that the text is about."""

    def __init__(self, message: str, field: str = "command") -> None:
        super().__init__(message)
        self.field = field


def record_as(run_id: int, request: Request, viewer: Viewer) -> Command:
    """Record the command of `viewer` and notify the run's owner; return its row.

    The same id again returns the first row and changes nothing. A command that is illegal in the run's current state is
    recorded as refused, with the reason. Raises `NotAllowed`.
    """
    if not viewer.may_command:
        raise NotAllowed(operators_only())
    return record(run_id, request, author_id=viewer.user_id, author_name=viewer.name)


def record(
    run_id: int,
    request: Request,
    *,
    author_id: int | None,
    author_name: str,
    rule_id: int | None = None,
    may_push: bool = False,
    replayed_rule: str = "",
    before_start: bool = False,
) -> Command:
    """Record a command of a person, a rule, a signal or the command line, as `author_name` says.

    `replayed_rule` names the rule of another run whose command a replay repeats. Other names without `author_id` and
    `rule_id` count as names of persons, which guests do not get. With `may_push` a run may be put before those of other
    projects in the queue. A command that is sent `before_start` waits until the run starts.
    """
    with transaction.atomic():
        if isinstance(request.command, MoveToFront):
            # Locked before the run, so that concurrent moves lock the same rows in the same order.
            queue_order.lock_line()
        run = Run.objects.select_for_update().get(pk=run_id)
        request = _in_types_of_knob(run, request)
        author = User.objects.filter(pk=author_id).first() if author_id is not None else None
        command, created = Command.objects.get_or_create(
            pk=request.id,
            defaults={
                "run": run,
                "kind": request.command.kind,
                "arguments": msgspec.to_builtins(request.command),
                "author_id": author_id,
                "author_name": distinct_name(author, run.project_id, author_name) if author else author_name,
                "rule_id": rule_id,
                "replayed_rule": replayed_rule,
                "reason": request.reason,
                "cause": stored(request.cause),
                "sent_at": timezone.now(),
                "expires_at": _expiry_of(run, request),
                "expected_state": request.expected_state,
                "expected_value": request.expected_value,
                "at_step": request.at_step,
                "at_epoch": request.at_epoch,
                "at_roll_backs": request.at_roll_backs,
            },
        )
        if command.run_id != run_id:
            raise NotAllowed("This id belongs to a command of another run: choose another id.", "id")
        if not created:
            return command
        feed.append(run_id, CommandChanged(**as_wire(command)))
        if before_start:
            return command
        refusal = _refusal(run, request) or _refusal_of_queue(request.command, may_push)
        if refusal:
            complete_command(command, CommandState.REFUSED, outcome=refusal)
        elif isinstance(request.command, OfQueue):
            _settle_in_queue(run, request.command, command, may_push)
        elif not _settled_here(run, request, command):
            feed.announce_command(run_id)
    return command


def _expiry_of(run: Run, request: Request) -> datetime | None:
    """Return when a command expires, by the clock of the database, which also decides whether it has expired."""
    if request.expires_in_s is None:
        return None
    now: datetime = Run.objects.filter(pk=run.pk).values_list(Now(), flat=True).get()
    return now + timedelta(seconds=request.expires_in_s)


def _refusal(run: Run, request: Request) -> str:
    """Return why a command does not apply to the run as it is now, "" if it does."""
    if run.state not in request.command.legal_in:
        return f"The run is {run.state}."
    if run.state not in legal_states(type(request.command), run):
        return ONLY_RECIPES
    if request.expected_state and not _may_become(run, request.expected_state):
        return f"The run was expected to be {request.expected_state}, but it is {run.state}."
    if run.state not in LIVE and request.is_scheduled:
        return f'The run is {run.state}: there is no step to wait for. Leave out "at".'
    if passed := _passed(run, request):
        return passed
    if run.withholds(request.command.kind):
        return WITHHELD[request.command.kind]
    return str(knob_refusal(run, request.command) or "")


def _passed(run: Run, request: Request) -> str:
    """Return why the step, epoch or lap for which a command asks has passed, "" if it has not."""
    if request.at_roll_backs is not None:
        done = run.commands.filter(kind=RollBack.kind, state=CommandState.APPLIED).count()
        if request.at_roll_backs > done:
            return ""
        if request.at_roll_backs < done:
            return (
                f"at.roll_backs is {request.at_roll_backs}, but the run has already been rolled back {done} times. "
                f"Give at least {done}."
            )
    if request.at_step is not None and request.at_step < run.step:
        return f"Step {request.at_step} has passed: the run is at step {run.step}. Give a later step."
    if request.at_epoch is not None and request.at_epoch < run.epoch:
        return f"Epoch {request.at_epoch} has passed: the run has completed epoch {run.epoch}. Give a later epoch."
    return ""


def _refusal_of_queue(command: RunCommand, may_push: bool) -> str:
    if isinstance(command, SetPriority) and command.priority > 0 and not may_push:
        return gettext_noop(
            "Only an administrator can set a priority above 0, in the admin: the run then starts before runs of other "
            "projects."
        )
    return ""


def _settle_in_queue(run: Run, request: OfQueue, command: Command, may_push: bool) -> None:
    """Apply a command to a queued run. Its row must be locked."""
    done, refusal, old, new = True, "", None, None
    match request:
        case Withdraw():
            queue.leave_queue(run, queue.WITHDRAWN)
        case StartAnyway():
            done, refusal = queue.start_anyway(run), gettext_noop("The run does not wait for another run.")
        case SetPriority(priority=priority):
            old, new = run.priority, priority
            done = queue_order.set_priority(run, priority)
            refusal = gettext_noop("The run is not waiting in the queue: it starts now.")
        case MoveToFront():
            done = queue_order.move_to_front(run, over_all=may_push)
            refusal = gettext_noop("None of the runs ahead of this one may be overtaken.")
    if done:
        complete_command(command, CommandState.APPLIED, step=run.step, old=old, new=new)
    else:
        complete_command(command, CommandState.REFUSED, outcome=refusal)


def _may_become(run: Run, expected_state: str) -> bool:
    """Return whether a run can be in a state when the command takes effect; only the training can check for a pause."""
    return expected_state == run.state or (run.state in LIVE and expected_state in LIVE)


def _in_types_of_knob(run: Run, request: Request) -> Request:
    """Return a request with texts replaced by typed values, such as true for yes, if the knob is known."""
    command = request.command
    spec = run.knob_specs.get(command.knob) if isinstance(command, (SetKnob, RollBack)) else None
    if spec is None or not isinstance(command, (SetKnob, RollBack)):
        return request
    return msgspec.structs.replace(
        request,
        command=msgspec.structs.replace(command, value=_typed(spec, command.value)),
        expected_value=_typed(spec, request.expected_value),
    )


def _typed(spec: ValueSpec, given: KnobValue | None) -> KnobValue | None:
    try:
        return None if given is None else spec.take(given)
    except SpecError:
        return given  # the refusal quotes it as it was given


def knob_refusal(run: Run, command: RunCommand) -> SpecError | None:
    """Check a knob against the training's declaration; the training checks again when it applies the value."""
    specs = run.knob_specs
    if not specs or not isinstance(command, (SetKnob, RollBack)) or not command.knob:
        return None  # the training may not have declared its knobs yet
    try:
        if command.knob not in specs:
            raise unknown_knob(command.knob, specs)
        spec = specs[command.knob]
        spec.check_group(command.group)
        if command.factor is None:
            spec.take(command.value)
    except SpecError as error:
        return error
    return None


def _settled_here(run: Run, request: Request, command: Command) -> bool:
    """Execute a command that needs no training process; return whether it was one."""
    if isinstance(request.command, Cancel):
        return _cancel(request.command, command)
    if run.state in LIVE:
        return False
    if isinstance(request.command, Stop):
        queue.leave_queue(run, f"{_not_started(run)}: the run was stopped while it waited.")
        return complete_command(command, CommandState.APPLIED, step=run.step)
    if isinstance(request.command, Note):
        return complete_command(command, CommandState.APPLIED, step=run.step)
    if isinstance(request.command, Extend):
        return _extend_at_rest(run, request.command, command)
    return False


def _not_started(run: Run) -> str:
    return "Not started again" if queue.waits_to_restart(run) else "Not started"


def _cancel(request: Cancel, command: Command) -> bool:
    """Cancel a command that was not delivered; the training cancels one that waits there."""
    wanted = Command.objects.filter(pk=request.command, run_id=command.run_id).exclude(pk=command.pk).first()
    if wanted is None:
        return complete_command(command, CommandState.REFUSED, outcome="This run has no such command.")
    if wanted.state == CommandState.DELIVERED and (wanted.at_step, wanted.at_epoch) != (None, None):
        return False
    withdrawn = complete_command(
        wanted,
        CommandState.EXPIRED,
        # The command log has the author; texts of share links contain no names of members.
        outcome="The command was cancelled.",
        only_from=CommandState.SENT,
    )
    if withdrawn:
        return complete_command(command, CommandState.APPLIED)
    wanted.refresh_from_db()
    if wanted.state == CommandState.DELIVERED:
        reason = "The training has already received the command, and executes it at its next step."
    else:
        reason = f"It is already {wanted.state}."
    return complete_command(command, CommandState.REFUSED, outcome=reason)


def _extend_at_rest(run: Run, request: Extend, command: Command) -> bool:
    """Extend a run that is not training; a finished one can then be resumed."""
    old = run.total_epochs
    new = None if old is None else old + request.epochs
    fields: dict[str, Any] = {"extra_epochs": F("extra_epochs") + request.epochs}
    if new is not None:
        fields["total_epochs"] = new
        if run.steps_per_epoch:
            fields["total_steps"] = new * run.steps_per_epoch
    if run.state == RunState.FINISHED:
        fields |= {"state": RunState.STOPPED, "reason": "Extended: it can be resumed."}
    Run.objects.filter(pk=run.pk).update(**fields)
    complete_command(command, CommandState.APPLIED, step=run.step, old=old, new=new)
    announce_status(run.pk)
    return True
