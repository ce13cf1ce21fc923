"""Replays a run: sends its commands to another run at the same steps.

With the same configuration, seed and applied commands, the curve is the same, bit for bit on deterministic hardware.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid5

import msgspec

from runs.commands.record import record
from runs.models import Attempt, Command, CommandState, Run, RunState, StoredEvent
from runs.protocol.causes import OfReplay
from runs.protocol.commands import (
    COMMANDS,
    Evaluate,
    Extend,
    Note,
    Request,
    RollBack,
    SaveCheckpoint,
    SetKnob,
    parse_command,
)

# Commands that change the curve or annotate it. Pauses change nothing, and the new run ends by itself.
REPLAYED = (SetKnob.kind, Extend.kind, Evaluate.kind, SaveCheckpoint.kind, Note.kind)
# If one of these fields differs, two runs differ even with the same commands.
COMPARED = ("recipe_id", "parameters", "seed", "deterministic", "device", "ranks")


class CannotReplay(Exception):
    """The new run cannot repeat the old one from its present step; the text says what to do."""


def interventions(run: Run) -> list[Command]:
    """Return the applied commands that led to the present state of `run`, in the order of their effect.

    Commands of an attempt after the step from which a later one resumed are not part of the curve any longer.
    """
    applied = run.commands.filter(kind__in=REPLAYED, state=CommandState.APPLIED).order_by("step", "applied_at")
    attempts = list(run.attempts.order_by("number"))
    return [command for command in applied if all(_outlasts(command, attempt) for attempt in attempts)]


def differences(old: Run, new: Run) -> list[str]:
    """Return the differences between two runs that make their curves differ."""
    return [name.removesuffix("_id") for name in COMPARED if getattr(old, name) != getattr(new, name)]


def replay(old: Run, new: Run, *, author_id: int | None, author_name: str) -> list[Command]:
    """Send the applied commands of `old` to `new`, each at its step; return the rows.

    Commands of rules are included: if a rule of `new` would send the same command again, it is held back
    (`runs.alerts.rulebook.acting`). Safe to repeat: each command is sent to a run once. Raises `CannotReplay`.
    """
    found = interventions(old)
    if not new.is_live:
        raise CannotReplay(
            f"Run {new.pk} is {new.state}: start it paused (create_run --start-paused), replay, then resume it."
        )
    if old.commands.filter(kind=RollBack.kind, state=CommandState.APPLIED).exists():
        raise CannotReplay(f"Run {old.pk} was rolled back. A replay cannot repeat that: clone the run instead.")
    first = min((command.step or 0 for command in found if command.kind != Extend.kind), default=new.step)
    if new.step > first or (first == 0 and new.state != RunState.PAUSED):
        raise CannotReplay(
            f"Run {new.pk} is {new.state} at step {new.step}, and the first change comes after step {first}: use a "
            f"run that was started paused."
        )
    return [
        record(
            new.pk,
            _request(old, new, command),
            author_id=author_id,
            author_name=author_name,
            replayed_rule=_rule_of(command),
        )
        for command in found
    ]


def _rule_of(command: Command) -> str:
    """Return the name of the rule that sent a command, "" if a person sent it. The rule may have been deleted since."""
    by_rule = command.rule_id is not None or command.alerts.exists()
    return command.author_name if by_rule else command.replayed_rule


def _request(old: Run, new: Run, command: Command) -> Request:
    payload: dict[str, Any] = {
        "id": str(uuid5(command.pk, f"replayed on run {new.pk}")),
        "command": command.kind,
        "arguments": command.arguments,
    }
    if command.step and COMMANDS[command.kind].can_be_scheduled:
        payload["at"] = {"step": command.step}
    return parse_command(payload).caused_by(OfReplay(run=old.pk))


def _outlasts(command: Command, attempt: Attempt) -> bool:
    """Return whether the effect of a command was still present when an attempt began."""
    if command.attempt is None or command.attempt >= attempt.number:
        return True
    start, step = attempt.resumed_step or 0, command.step or 0
    return step < start or (step == start and _came_before_the_checkpoint(command, attempt))


def _came_before_the_checkpoint(command: Command, attempt: Attempt) -> bool:
    """Return whether, at the same step, a command came before the checkpoint from which an attempt resumed."""
    events = StoredEvent.objects.filter(run_id=command.run_id, kind__in=("command", "checkpoint")).order_by("seq")
    applied = saved = 0
    for seq, frame in events.values_list("seq", "frame"):
        fields = msgspec.json.decode(frame)
        if fields.get("id") == str(command.pk) and fields["state"] == CommandState.APPLIED:
            # The first report counts: the value in effect may be corrected a step later.
            applied = applied or seq
        elif fields["kind"] == "checkpoint" and fields["step"] == command.step and fields["attempt"] < attempt.number:
            saved = seq
    return applied < saved
