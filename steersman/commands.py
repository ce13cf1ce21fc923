"""Applies commands in a training: the part of a step boundary that only runs if commands are pending.

Commands come from the mailbox (`steersman.records.posted`), in the order in which they were posted. Each gets exactly
one outcome, written to the journal. Does not import Django or torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from steersman.checkpoints.own import FoundCheckpoint
from steersman.kinds import SpecError, Value
from steersman.knobs import CONTRADICTED, Knob, Knobs, is_other
from steersman.marked_text import gettext_noop
from steersman.records.kinds import LONGEST_REMARK, OutcomeState, State
from steersman.records.posted import (
    CancelArguments,
    PostedCommand,
    RollBackArguments,
    SetKnobArguments,
    StopArguments,
)
from steersman.records.schedule import Moment, is_later, left_behind, passed
from steersman.records.typed_json import Json, Malformed, from_fields
from steersman.values import as_text, first_line, shown

# A function of the training. It gets the arguments of a command as a JSON object.
Handler = Callable[[dict[str, Json]], object]

# Commands that need a handler (`Run.on`), with the refusal if there is none.
UNHANDLED = {
    "save_checkpoint": gettext_noop(
        'This training cannot save a checkpoint on command: its script registers no run.on("save_checkpoint", …).'
    ),
    "evaluate": gettext_noop(
        'This training cannot evaluate on command: its script registers no run.on("evaluate", …).'
    ),
    "extend": gettext_noop('This training cannot be extended: its script registers no run.on("extend", …).'),
    "roll_back": gettext_noop(
        "This training cannot be rolled back yet: it has saved no objects by run.save_checkpoint(), and its script "
        'registers no run.on("roll_back", …).'
    ),
}

# With several ranks, only the clock of the leader decides whether a waiting command has expired.
EXPIRE = "expire"


class Refusal(Exception):
    """Raised by a handler that cannot execute the command; the text gives the reason."""


class OutcomeRecorder(Protocol):
    """The journal of a run, which records outcomes."""

    def record_outcome(
        self, command: PostedCommand, state: OutcomeState, done: Done, ranks: int | None = None
    ) -> None: ...
    def record_state(self, state: State) -> None: ...
    def record_knobs(self) -> None: ...
    def record_effect(self, command_id: str, effective: object) -> None: ...
    def checkpoint_of(self, arguments: RollBackArguments) -> FoundCheckpoint: ...
    def continue_from(self, step: int, epoch: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a command: the values before, after and in effect, and a remark."""

    old: object = None
    new: object = None
    effective: object = None
    remark: str = ""
    # Undoes the command, if another rank cannot do the same.
    undo: Callable[[], None] | None = None
    # If the training was rolled back: the completed steps and epochs from which it continues.
    goes_on_from: tuple[int, int] | None = None
    # Whether the command has restored the knobs itself, as a recipe does, whose optimizer state contains their effects.
    restores_knobs: bool = False


# How long to wait for the step after a change, if the training does not report its steps.
STEP_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class ReportedEffect:
    """The effective value in the outcome of a command, which is compared again after the next step."""

    command_id: str
    knob: Knob
    groups: tuple[str, ...]
    effective: object
    step: int
    reported_at: float


class Control:
    """Applies commands in one training process, each once. `ranks` is the number of processes that apply them together.

    `agree(problem)` is called after each command that was tried, with the problem on this rank ("" if there is
    none). It returns the problem of any rank: with several ranks, a failure on one undoes the command on all. A
    command for which only the rank that `leads` has a handler is not sent to the others.
    """

    def __init__(
        self,
        outcomes: OutcomeRecorder,
        *,
        paused: bool = False,
        ranks: int = 1,
        leads: bool = True,
        agree: Callable[[str], str] = str,
        forbid: Callable[[str], str] | None = None,
    ) -> None:
        """`forbid(kind)` returns why a command of a kind is not allowed now, "" if it is."""
        self.knobs = Knobs()
        self.paused = paused
        self.stopping = False
        # Whether the training saves a checkpoint when it stops.
        self.saves_on_stop = True
        self.ranks = ranks
        self._leads = leads
        self._agree = agree
        self._forbid = forbid
        self._outcomes = outcomes
        self._handlers: dict[str, Handler] = {}
        self._scheduled: list[PostedCommand] = []
        self._reported_effects: list[ReportedEffect] = []
        self._now = Moment()
        self._own: dict[str, Callable[[PostedCommand], Done]] = {
            "stop": self._stop,
            "pause": self._pause,
            "resume": self._resume,
            "set_knob": self._set_knob,
            "note": self._note,
            "cancel": self._cancel,
            "roll_back": self._roll_back,
        }

    @property
    def needs_attention(self) -> bool:
        """Return whether every step boundary must check for commands."""
        return self.stopping or self.paused or bool(self._scheduled or self._reported_effects)

    @property
    def state(self) -> str:
        return "paused" if self.paused else "running"

    def on(self, kind: str, handler: Handler) -> None:
        """Let `handler(arguments)` execute commands of `kind`. Raises `TypeError` if it is not a function."""
        if not isinstance(kind, str):
            raise TypeError(f"on() takes the name of a command, not {shown(kind)}")
        if not callable(handler):
            raise TypeError(f"on({kind!r}, …) takes a function of the command's arguments, not {shown(handler)}")
        self._handlers[kind] = handler

    @property
    def handled(self) -> list[str]:
        """Return the commands that have a handler."""
        return sorted(self._handlers)

    def do(self, kind: str, step: int, epoch: int) -> str:
        """Do what was asked by a signal instead of a command; return why it could not be done, "" if it was."""
        self._now = replace(self._now, step=step, epoch=epoch)
        try:
            self._apply(PostedCommand(id=None, command=kind))
        except Exception as error:  # as for commands: a request must not end the training
            return first_line(error)
        return ""

    def take(self, commands: Sequence[PostedCommand], step: int, epoch: int) -> None:
        """Apply `commands`, or keep those that are for later, at the boundary after `step` steps and `epoch` epochs."""
        self._now = replace(self._now, step=step, epoch=epoch)
        for command in commands:
            if command.command == EXPIRE:
                self._expire_waiting(command.id)
            elif is_later(command, self._now):
                self._scheduled.append(command)
            else:
                self._settle(command, passed=passed(command, self._now))

    def _expire_waiting(self, wanted: str | None) -> None:
        """Expire a command that waits for its step or epoch, by the leader's clock."""
        waiting = next((command for command in self._scheduled if command.id == wanted), None)
        if waiting is not None:
            self._scheduled.remove(waiting)
            self.expire(waiting)

    def apply_due(self, step: int, epoch: int) -> None:
        """Apply what was to be done at this step or epoch."""
        self._now = replace(self._now, step=step, epoch=epoch)
        if not self._scheduled:
            return
        # One by one: a rollback changes the step, and what waits for it may be due at this boundary too.
        while (command := self._next_due()) is not None:
            self._scheduled.remove(command)
            self._settle(command, passed=left_behind(command, self._now))

    def _next_due(self) -> PostedCommand | None:
        due = (each for each in self._scheduled if not is_later(each, self._now) or self._has_expired(each))
        return next(due, None)

    def refuse(self, command: PostedCommand, reason: str) -> None:
        """Record that a command was refused without a try."""
        self._record(command, "refused", Done(remark=reason))

    def expire(self, command: PostedCommand) -> None:
        """Record that a command arrived too late."""
        self._record(command, "expired", Done(remark="The command was not applied before it expired."))

    def _has_expired(self, command: PostedCommand) -> bool:
        return command.expires_monotonic_s is not None and time.monotonic() > command.expires_monotonic_s

    def _settle(self, command: PostedCommand, passed: str = "") -> None:
        """Apply one command and record its outcome. An error of a command must not end the training.

        `passed` is the refusal of a command that came after its step or epoch.
        """
        if self._has_expired(command):
            self.expire(command)
            return
        done, problem = Done(), ""
        try:
            if passed:
                raise Refusal(passed)
            self._check_state(command)
            done = self._apply(command)
        except (SpecError, Refusal, Malformed) as error:
            problem = as_text(error, LONGEST_REMARK) or "It was refused."
        except Exception as error:  # from the training's own setters and handlers
            cause = f"{type(error).__name__}: {first_line(error)}"
            problem = f"The training could not execute the command ({cause}); nothing has changed."
        refusal = self._agree(problem)
        if not refusal:
            self._record(command, "applied", done, self.ranks)
            self._remember_effect(command, done)
            if done.goes_on_from is not None:
                self._continue_from(*done.goes_on_from)
            return
        if done.undo is not None and not problem:
            done.undo()
        self._record(command, "refused", Done(remark=refusal))

    def _check_state(self, command: PostedCommand) -> None:
        expected = command.expected_state
        if expected and expected != self.state:
            raise Refusal(f"The run was expected to be {expected}, but it is {self.state}.")

    def _apply(self, command: PostedCommand) -> Done:
        kind = command.command
        if self._forbid is not None and (reason := self._forbid(kind)):
            raise Refusal(reason)
        if kind in self._own:
            return self._own[kind](command)
        handler = self._handlers.get(kind)
        if handler is None and not self._leads:
            return Done()
        if handler is None:
            raise Refusal(UNHANDLED.get(kind, f"This training does not support the command {kind}."))
        result = handler(command.arguments)
        return result if isinstance(result, Done) else Done(remark=str(result) if isinstance(result, str) else "")

    def _record(self, command: PostedCommand, state: OutcomeState, done: Done, ranks: int | None = None) -> None:
        self._outcomes.record_outcome(command, state, done, ranks)

    def _stop(self, command: PostedCommand) -> Done:
        arguments = from_fields(StopArguments, command.arguments)
        old = self.state
        self.stopping = True
        self.saves_on_stop = arguments.checkpoint
        return Done(old=old, new="stopping")

    def _pause(self, command: PostedCommand) -> Done:
        if self.stopping:
            raise Refusal("The run is stopping.")
        if self.paused:
            raise Refusal("The run is already paused.")
        self.paused = True
        self._outcomes.record_state("paused")
        return Done(old="running", new="paused")

    def _resume(self, command: PostedCommand) -> Done:
        if not self.paused:
            raise Refusal("The run is not paused.")
        self.paused = False
        self._outcomes.record_state("running")
        return Done(old="paused", new="running")

    def _set_knob(self, command: PostedCommand) -> Done:
        arguments = from_fields(SetKnobArguments, command.arguments)
        knob = self.knobs.named(arguments.knob)
        before = knob.values
        change = knob.change(
            value=arguments.value, factor=arguments.factor, group=arguments.group, expect=command.expected_value
        )
        self._outcomes.record_knobs()
        return Done(
            old=change.old,
            new=change.new,
            effective=change.effective,
            undo=lambda: self._put_back(knob, before),
        )

    def _roll_back(self, command: PostedCommand) -> Done:
        """Restore the objects of a checkpoint, then set the knobs as requested. A failure leaves all unchanged."""
        arguments = from_fields(RollBackArguments, command.arguments)
        handler = self._handlers.get("roll_back")
        # All ranks must vote equally often, even if one of them has a problem.
        if problem := self._agree("" if handler is not None else UNHANDLED["roll_back"]):
            raise Refusal(problem)
        assert handler is not None
        found = self._outcomes.checkpoint_of(arguments)
        arguments, saved_knobs = found.arguments, found.knobs
        before = {knob.spec.name: knob.values for knob in self.knobs}
        result = handler(command.arguments | found.as_arguments())
        undo = result.undo if isinstance(result, Done) else None
        if isinstance(result, Done) and result.restores_knobs:
            saved_knobs = {}

        def put_back() -> None:
            if undo is not None:
                undo()
            for knob in self.knobs:
                knob.restore(before[knob.spec.name])
            self._outcomes.record_knobs()

        old: dict[str, object] = {"step": self._now.step}
        new: dict[str, object] = {"step": arguments.step}
        try:
            for knob in self.knobs:
                wanted = (before if arguments.keep_knobs else saved_knobs).get(knob.spec.name)
                if wanted is not None and (refused := knob.restore(wanted)):
                    raise next(iter(refused.values()))
            if arguments.knob:
                changed = self.knobs.named(arguments.knob).change(
                    value=arguments.value, factor=arguments.factor, group=arguments.group
                )
                old[arguments.knob], new[arguments.knob] = changed.old, changed.new
        except BaseException:
            put_back()
            raise
        self._outcomes.record_knobs()
        present = {knob.spec.name: knob.values for knob in self.knobs}
        told = result.goes_on_from if isinstance(result, Done) else None
        goes_on_from = told or (arguments.step, arguments.epoch)
        return Done(old=old, new=new, effective=present, undo=put_back, goes_on_from=goes_on_from)

    def _continue_from(self, step: int, epoch: int) -> None:
        self._reported_effects = []
        self._now = Moment(step, epoch, self._now.roll_backs + 1)
        self._outcomes.continue_from(step, epoch)

    def _remember_effect(self, command: PostedCommand, done: Done) -> None:
        """Remember the effective value after a change of a knob; a later change of the same groups replaces it."""
        if command.command != "set_knob" or command.id is None or done.effective is None:
            return
        arguments = from_fields(SetKnobArguments, command.arguments)
        knob = self.knobs.named(arguments.knob)
        groups = knob.spec.check_group(arguments.group)
        others = [
            reported
            for reported in self._reported_effects
            if reported.knob is not knob or not set(groups) & set(reported.groups)
        ]
        reported = ReportedEffect(command.id, knob, groups, done.effective, self._now.step, time.monotonic())
        self._reported_effects = [*others, reported]

    def correct_effects(self, step: int) -> None:
        """Record the effective value if it differs from the outcome, at the first step boundary after the change."""
        now = time.monotonic()
        for reported in self._reported_effects[:]:
            effective = reported.knob.effect_shown(reported.effective, reported.groups)
            is_wrong = is_other(effective, reported.effective, CONTRADICTED)
            if is_wrong:
                self._outcomes.record_effect(reported.command_id, effective)
            if is_wrong or step != reported.step or now > reported.reported_at + STEP_WITHIN_S:
                self._reported_effects.remove(reported)

    def _put_back(self, knob: Knob, values: dict[str, Value]) -> None:
        """Undo a change that another rank could not make."""
        knob.restore(values)
        self._outcomes.record_knobs()

    def _note(self, command: PostedCommand) -> Done:
        return Done()

    def _cancel(self, command: PostedCommand) -> Done:
        """Cancel a command that still waits for its step or epoch."""
        wanted = from_fields(CancelArguments, command.arguments).command
        waiting = next((other for other in self._scheduled if other.id == wanted), None)
        if waiting is None:
            raise Refusal("The command to be cancelled has already taken effect or ended.")
        self._scheduled.remove(waiting)
        self._record(waiting, "expired", Done(remark="The command was cancelled."))
        return Done()
