"""Typed commands of runs, and the parsing of requests.

Imports neither Django nor torch. A command is parsed once, where it arrives (page, socket, API, command line); all
other code uses these classes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar
from uuid import UUID, uuid4

import msgspec

from runs.protocol.argument_text import takes
from runs.protocol.causes import CommandCause
from runs.protocol.states import LIVE, STATES
from runs.protocol.storable_text import UNSTORABLE
from steersman.kinds import LARGEST_INT, LONGEST_TEXT, number_text
from steersman.marked_text import gettext_noop

LARGEST_EPOCH = 2**31 - 1
LONGEST_EXPIRY_S = 30 * 86_400.0
LARGEST_REASON_CHARACTERS = 500

Epochs = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=60, pattern=r"^\w[\w .:+-]*\Z")]
MOST_SKIPPED_BATCHES = 1_000_000
CheckpointName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Priority = Annotated[int, msgspec.Meta(ge=-10, le=10)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
Short = Annotated[str, msgspec.Meta(max_length=100)]
KnobValue = float | int | bool | Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]
# What the object of a command may hold; `kind` is how a socket marks it.
AT_FIELDS = ("step", "epoch", "roll_backs")
PAYLOAD_FIELDS = ("kind", "command", "arguments", "id", "reason", "expires_in_s", "expect", "at")


class InvalidCommand(ValueError):
    """The request is not a valid command. `field` names the field with the error; the text says what to do."""

    def __init__(self, message: str, field: str = "command") -> None:
        super().__init__(message)
        self.field = field


class RunCommand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command of a run. `legal_in` are the run states in which it may be sent."""

    kind: ClassVar[str]
    help: ClassVar[str]
    legal_in: ClassVar[frozenset[str]] = LIVE
    # Whether it is useful to schedule it for a later step or epoch.
    can_be_scheduled: ClassVar[bool] = True

    def check(self) -> None:
        """Raise `InvalidCommand` for errors that the types of the fields do not exclude."""


class Stop(RunCommand, frozen=True, kw_only=True):
    """Finish the step, save a checkpoint and end; `train --run-id` resumes from there."""

    kind: ClassVar[str] = gettext_noop("stop")
    help: ClassVar[str] = gettext_noop(
        "Finish the current step, save a checkpoint and end. The run can be resumed later."
    )
    # Stopping a queued run removes it from the queue.
    legal_in: ClassVar[frozenset[str]] = LIVE | {"queued"}
    checkpoint: bool = True


class EndProcess(RunCommand, frozen=True, kw_only=True):
    """End the process of a training that does not read its commands: SIGTERM, and SIGKILL 10 s later."""

    kind: ClassVar[str] = gettext_noop("end_process")
    help: ClassVar[str] = gettext_noop(
        "End the process of a training that does not read run.stopping: SIGTERM, and SIGKILL 10 s later. Unsaved "
        "progress is lost."
    )
    can_be_scheduled: ClassVar[bool] = False


class Pause(RunCommand, frozen=True, kw_only=True):
    """Wait before the next step; every command still works."""

    kind: ClassVar[str] = gettext_noop("pause")
    help: ClassVar[str] = gettext_noop(
        "Wait before the next step, keeping everything in memory, until the run is resumed."
    )


class Resume(RunCommand, frozen=True, kw_only=True):
    """Continue after a pause."""

    kind: ClassVar[str] = gettext_noop("resume")
    help: ClassVar[str] = gettext_noop("Continue with the next step after a pause.")
    can_be_scheduled: ClassVar[bool] = False


class SaveCheckpoint(RunCommand, frozen=True, kw_only=True):
    """Save a checkpoint under a name; it is kept until the run is deleted."""

    kind: ClassVar[str] = gettext_noop("save_checkpoint")
    help: ClassVar[str] = gettext_noop(
        "Save a checkpoint after the current step, under a name. It is kept until the run is deleted."
    )
    name: Name = "manual"


class Evaluate(RunCommand, frozen=True, kw_only=True):
    """Evaluate now, between two steps; this does not change the training."""

    kind: ClassVar[str] = gettext_noop("evaluate")
    help: ClassVar[str] = gettext_noop("Evaluate the model after the current step, without changing the training.")


class SetKnob(RunCommand, frozen=True, kw_only=True):
    """Change a knob that the training declares, to `value`, or to `factor` times its current value."""

    kind: ClassVar[str] = gettext_noop("set_knob")
    help: ClassVar[str] = gettext_noop(
        "Change a value of the running training, such as the learning rate, at the next step."
    )
    knob: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
    value: KnobValue | None = None
    factor: float | None = None
    group: Short = ""

    def check(self) -> None:
        if (self.value is None) == (self.factor is None):
            raise InvalidCommand("Give either value or factor.", "value")
        if self.factor is not None and not (math.isfinite(self.factor) and self.factor > 0):
            raise InvalidCommand("Give factor as a finite number above 0.", "factor")


class Note(RunCommand, frozen=True, kw_only=True):
    """Add a note to the current step."""

    kind: ClassVar[str] = gettext_noop("note")
    help: ClassVar[str] = gettext_noop("Attach a note to the current step; it is marked on every chart.")
    legal_in: ClassVar[frozenset[str]] = STATES
    text: Text

    def check(self) -> None:
        if not self.text.strip():
            raise InvalidCommand("Give text: a note must not be empty.", "text")


class Extend(RunCommand, frozen=True, kw_only=True):
    """Train more epochs than planned. A finished run can then be started again."""

    kind: ClassVar[str] = gettext_noop("extend")
    help: ClassVar[str] = gettext_noop("Train more epochs than planned. A finished run can then be resumed.")
    legal_in: ClassVar[frozenset[str]] = STATES - {"lost"}
    can_be_scheduled: ClassVar[bool] = False
    epochs: Epochs


class RollBack(RunCommand, frozen=True, kw_only=True):
    """Continue from a checkpoint in the same process; `knob` is changed at the same time, to `value` or by `factor`."""

    kind: ClassVar[str] = gettext_noop("roll_back")
    help: ClassVar[str] = gettext_noop(
        "Continue from a checkpoint without a restart, with the knobs as they were then or as they are now."
    )
    checkpoint: CheckpointName = "newest"
    keep_knobs: bool = False
    knob: Annotated[str, msgspec.Meta(max_length=60)] = ""
    value: KnobValue | None = None
    factor: float | None = None
    group: Short = ""
    # Batches that are not trained on again: those after the checkpoint, or those from the step `skip_from` on.
    skip_batches: Annotated[int, msgspec.Meta(ge=0, le=MOST_SKIPPED_BATCHES)] = 0
    skip_from: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_INT)] | None = None

    def check(self) -> None:
        if not self.knob and (self.value is not None or self.factor is not None or self.group):
            raise InvalidCommand("Name the knob to be changed.", "knob")
        if self.knob and (self.value is None) == (self.factor is None):
            raise InvalidCommand("Give either value or factor.", "value")
        if self.factor is not None and not (math.isfinite(self.factor) and self.factor > 0):
            raise InvalidCommand("Give factor as a finite number above 0.", "factor")
        if self.skip_from is not None and not self.skip_batches:
            raise InvalidCommand(
                "Give skip_batches too: the number of batches to skip, beginning at step skip_from.", "skip_from"
            )


class Cancel(RunCommand, frozen=True, kw_only=True):
    """Cancel a command that has not taken effect: one that is not delivered yet, or that waits for its step."""

    kind: ClassVar[str] = gettext_noop("cancel")
    help: ClassVar[str] = gettext_noop(
        "Cancel a command that was not delivered yet, or that waits for its step or epoch."
    )
    legal_in: ClassVar[frozenset[str]] = STATES
    can_be_scheduled: ClassVar[bool] = False
    command: UUID


class OfQueue(RunCommand, frozen=True, kw_only=True):
    """A command for a queued run, which does not reach a training."""

    legal_in: ClassVar[frozenset[str]] = frozenset({"queued"})
    can_be_scheduled: ClassVar[bool] = False


class Withdraw(OfQueue, frozen=True, kw_only=True):
    """Remove the run from the queue, which restores its earlier state."""

    kind: ClassVar[str] = gettext_noop("withdraw")
    help: ClassVar[str] = gettext_noop("Take the run out of the queue. It can be queued again.")


class MoveToFront(OfQueue, frozen=True, kw_only=True):
    """Start before the project's other waiting runs; runs of other projects keep their places."""

    kind: ClassVar[str] = gettext_noop("move_to_front")
    help: ClassVar[str] = gettext_noop(
        "Start before the other queued runs of the project. Runs of other projects keep their positions."
    )


class SetPriority(OfQueue, frozen=True, kw_only=True):
    """Start before all runs of a lower priority."""

    kind: ClassVar[str] = gettext_noop("set_priority")
    help: ClassVar[str] = gettext_noop(
        "Start before all runs with a lower priority. Only administrators can set a priority above 0."
    )
    priority: Priority


class StartAnyway(OfQueue, frozen=True, kw_only=True):
    """Stop waiting for another run."""

    kind: ClassVar[str] = gettext_noop("start_anyway")
    help: ClassVar[str] = gettext_noop("Stop waiting for another run. Start as soon as a device is free.")


COMMANDS: dict[str, type[RunCommand]] = {
    command.kind: command
    for command in (
        Stop, EndProcess, Pause, Resume, SaveCheckpoint, Evaluate, SetKnob, RollBack, Note, Extend, Cancel,
        Withdraw, MoveToFront, SetPriority, StartAnyway,
    )
}  # fmt: skip

# The entry in the command logs of source and branch. It cannot be sent as a command.
BRANCH = "branch"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed request: idempotency key, command, reason, expiry, condition, and time of effect.

    If no person gave the reason, `cause` holds as data what `reason` says in English; payloads cannot contain it.
    `at_step` and `at_epoch` delay the command until this many steps and epochs are done, `at_roll_backs` until the run
    has been rolled back so often. It is refused if the run was rolled back once more before, is not in
    `expected_state`, or a knob has another value than `expected_value`, at the moment of effect.
    """

    id: UUID
    command: RunCommand
    reason: str = ""
    cause: CommandCause | None = None
    expires_in_s: float | None = None
    expected_state: str = ""
    expected_value: KnobValue | None = None
    at_step: int | None = None
    at_epoch: int | None = None
    at_roll_backs: int | None = None

    @property
    def is_scheduled(self) -> bool:
        return (self.at_step, self.at_epoch) != (None, None)

    def caused_by(self, cause: CommandCause) -> Request:
        """Return the same request with `cause` as its reason."""
        return msgspec.structs.replace(self, reason=str(cause)[:LARGEST_REASON_CHARACTERS], cause=cause)


def parse_command(payload: Mapping[str, Any]) -> Request:
    """Return the request of a JSON object.

        {"command": "set_knob", "arguments": {"knob": "learning_rate", "value": 0.001}, "id": …, "reason": "…",
         "expires_in_s": 60, "expect": {"state": "running", "value": 0.003}, "at": {"step": 2000}}

    All fields except `command` are optional; an `id` is generated if none is given. Raises `InvalidCommand` with a
    sentence.
    """
    unknown = sorted(map(str, set(payload) - set(PAYLOAD_FIELDS)))
    if unknown:
        known = ", ".join(PAYLOAD_FIELDS[1:])
        raise InvalidCommand(f"A command has no field {unknown[0][:60]}; its fields are {known}.", unknown[0])
    kind = payload.get("command")
    if not isinstance(kind, str) or kind not in COMMANDS:
        raise InvalidCommand(f"There is no such command; use one of: {', '.join(sorted(COMMANDS))}.", "command")
    arguments = _object(payload, "arguments")
    if kind in (SetKnob.kind, RollBack.kind) and "value" in arguments:
        arguments = arguments | {"value": _as_json_holds(arguments.get("value"))}
    command = _convert(COMMANDS[kind], arguments)
    command.check()
    reason = payload.get("reason") or ""
    if not isinstance(reason, str) or len(reason) > LARGEST_REASON_CHARACTERS:
        raise InvalidCommand(f"Give the reason as text of at most {LARGEST_REASON_CHARACTERS} characters.", "reason")
    _check_text(reason, "reason")
    at = _schedule(payload, command)
    expected_state, expected_value = _expectation(payload, command)
    return Request(
        id=_parse_id(payload.get("id")),
        command=command,
        reason=reason,
        expires_in_s=_expiry(payload),
        expected_state=expected_state,
        expected_value=expected_value,
        at_step=at.get("step"),
        at_epoch=at.get("epoch"),
        at_roll_backs=at.get("roll_backs"),
    )


def unknown_argument(kind: str, unknown: str, names: Sequence[str]) -> str:
    """Return the sentence that refuses an argument that the command does not have."""
    if not names:
        return f'The command {kind} has no arguments: remove "{unknown}".'
    return f'The command {kind} has no argument "{unknown}". Its arguments: {", ".join(names)}.'


def _convert(command: type[RunCommand], arguments: dict[str, Any]) -> RunCommand:
    names = command.__struct_fields__
    unknown = next((str(name) for name in arguments if name not in names), None)
    if unknown is not None:
        raise InvalidCommand(unknown_argument(command.kind, unknown[:60], names), unknown)
    for name, value in arguments.items():
        _check_text(value, name)
    try:
        return msgspec.convert(arguments, command)
    except msgspec.ValidationError as error:
        # msgspec's message ends in: at `$.epochs`, or names the missing argument.
        culprit = re.search(r"`(?:\$\.)?(\w+)[^`]*`$", str(error))
        field = culprit[1] if culprit and culprit[1] in names else "arguments"
        wanted = takes(command, field) if field in names else str(error)
        raise InvalidCommand(f"{command.kind}: give {field} as {wanted}.", field) from error


def _check_text(value: object, field: str) -> None:
    if isinstance(value, str) and UNSTORABLE.search(value):
        raise InvalidCommand(f"{field} contains an invalid character: remove it.", field)


def _as_json_holds(value: Any) -> Any:
    """Return numbers that JSON cannot represent exactly as text: the spec of the knob decides whether to accept it."""
    if isinstance(value, float) and not math.isfinite(value):
        return number_text(value)
    return number_text(value) if isinstance(value, int) and abs(value) > LARGEST_INT else value


def _object(payload: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = payload.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidCommand(f"Send {name} as an object of names and values.", name)
    return value


def _schedule(payload: Mapping[str, Any], command: RunCommand) -> dict[str, int]:
    at = _object(payload, "at")
    if set(at) - set(AT_FIELDS) or set(at) == {"roll_backs"}:
        raise InvalidCommand('Give "at" as an object with "step" or "epoch" or both, such as {"step": 200}.', "at")
    for name, value in at.items():
        largest = LARGEST_INT if name == "step" else LARGEST_EPOCH
        # After a rollback, a training may be at step 0 or in its first epoch again.
        least = 0 if "roll_backs" in at else 1
        if type(value) is not int or not least <= value <= largest:
            raise InvalidCommand(f"Give at.{name} as a whole number from {least} to {largest}.", "at")
    if at and not command.can_be_scheduled:
        raise InvalidCommand(f'{command.kind} takes effect immediately: remove "at".', "at")
    return at


def _expectation(payload: Mapping[str, Any], command: RunCommand) -> tuple[str, KnobValue | None]:
    expect = _object(payload, "expect")
    if set(expect) - {"state", "value"}:
        raise InvalidCommand("The fields of expect are state and value.", "expect")
    state = expect.get("state") or ""
    if state and (not isinstance(state, str) or state not in STATES):
        raise InvalidCommand(f"expect: state must be one of {', '.join(sorted(STATES))}.", "expect")
    value = _as_json_holds(expect.get("value"))
    if value is not None and not isinstance(command, SetKnob):
        raise InvalidCommand("expect takes a value only with set_knob.", "expect")
    if value is not None and not isinstance(value, (float, int, bool, str)):
        raise InvalidCommand("expect: value must be a number, a truth value or text.", "expect")
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise InvalidCommand(f"expect: give value as text of at most {LONGEST_TEXT} characters.", "expect")
    _check_text(value, "expect")
    return state, value


def _expiry(payload: Mapping[str, Any]) -> float | None:
    seconds = payload.get("expires_in_s")
    if seconds is None:
        return None
    allowed = not isinstance(seconds, bool) and isinstance(seconds, (int, float)) and 0 < seconds <= LONGEST_EXPIRY_S
    if not allowed:
        raise InvalidCommand(
            f"Give expires_in_s as a number of seconds above 0 and at most {LONGEST_EXPIRY_S:.0f}.", "expires_in_s"
        )
    return float(seconds)


def _parse_id(value: object) -> UUID:
    if value is None or value == "":
        return uuid4()
    try:
        return UUID(str(value))
    except ValueError:
        raise InvalidCommand("Give id as a UUID, or leave it out.", "id") from None
