"""Replaying a run: the commands in its ledger are sent to another run, for the same places of the training.

Configuration, seed and ledger give the same curve again, bit for bit where the hardware is deterministic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import msgspec
from django.db import transaction

from runs.commands.record import record
from runs.models import Branch, Command, Run, RunState
from runs.protocol.causes import OfReplay
from runs.protocol.commands import Request, Resume, RollBack, SaveCheckpoint, SetKnob, parse_command
from runs.replaying.ledger import Applied, Entry, Kept, Ledger, Place, Saved, ledger_of, origins

# The fields that make two runs differ even with the same commands.
COMPARED = ("recipe_id", "parameters", "seed", "deterministic", "device", "ranks")


class CannotReplay(Exception):
    """The new run cannot repeat the old one from its current step; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A request to the new run, and the name of the rule that sent the command to the old one, "" if none did."""

    request: Request
    rule: str = ""


def interventions(run: Run) -> list[Command]:
    """Return the applied commands that led to where `run` is, in the order of their effect."""
    return ledger_of(run).commands


def differences(old: Run, new: Run) -> list[str]:
    """Return the names of the differences between two runs that make their curves differ."""
    return [name.removesuffix("_id") for name in COMPARED if getattr(old, name) != getattr(new, name)]


def replay(old: Run, new: Run, *, author_id: int | None, author_name: str) -> list[Command]:
    """Send `new` the commands in the ledger of `old`, each for its place; return the rows.

    Commands of rules are included: if a rule of `new` would send the same once more, it is held back
    (`runs.alerts.rulebook.acting`). Safe to repeat: each command is sent to a run once. Raises `CannotReplay`.
    """
    asked = list(requests(old, new, ledger_of(old)))
    if not new.is_live:
        raise CannotReplay(
            f"Run {new.pk} is {new.state}: replay to a run that was started paused (create_run --start-paused), then "
            "resume that run."
        )
    first = min((each.request.at_step or 0 for each in asked), default=None)
    if first is not None and (new.step > first or (new.step == first and new.state != RunState.PAUSED)):
        raise CannotReplay(
            f"Run {new.pk} is {new.state} at step {new.step}, which is too late: the first change takes effect right "
            f"after step {first}. Use a run that was started paused."
        )
    return [
        record(new.pk, each.request, author_id=author_id, author_name=author_name, replayed_rule=each.rule)
        for each in asked
    ]


def prepare(old: Run, new: Run, *, author_id: int | None, author_name: str) -> list[Command]:
    """Ask the same of a run that has not started, and to resume afterwards; return the rows.

    They wait for the start of `new`, which must be one that starts paused.
    """
    resume = parse_command({"id": str(_id(new, f"resume after the replay of {old.pk}")), "command": Resume.kind})
    asked = [*requests(old, new, ledger_of(old)), ReplayRequest(resume.caused_by(OfReplay(run=old.pk)))]
    with transaction.atomic():
        return [
            record(
                new.pk,
                each.request,
                author_id=author_id,
                author_name=author_name,
                replayed_rule=each.rule,
                before_start=True,
            )
            for each in asked
        ]


def requests(old: Run, new: Run, ledger: Ledger) -> Iterator[ReplayRequest]:
    """Yield the requests that repeat a ledger on `new`, in the order in which they are to be sent. Raises
    `CannotReplay`."""
    saved_anew = _saved_anew(old, ledger)
    for entry in ledger.entries:
        payload: dict[str, Any] | None = None
        rule = ""
        match entry.what:
            case Applied(command=command, target=target):
                name = f"replayed on run {new.pk}"
                payload = {"id": str(uuid5(command.pk, name)), "command": command.kind, "arguments": command.arguments}
                rule = _rule_of(command)
                if command.kind == RollBack.kind:
                    wanted = _wanted(command, target, saved_anew)
                    payload["arguments"] = command.arguments | {"checkpoint": wanted}
            case Saved(id=number) if number in saved_anew:
                payload = {
                    "id": str(_id(new, f"checkpoint {number}")),
                    "command": SaveCheckpoint.kind,
                    "arguments": {"name": saved_anew[number]},
                }
            case Kept(attempt=attempt, knob=knob, group=group, value=value):
                payload = {
                    "id": str(_id(new, f"{knob}/{group} of attempt {attempt} of run {old.pk}")),
                    "command": SetKnob.kind,
                    "arguments": {"knob": knob, "value": value, "group": group},
                }
        if payload is not None:
            request = parse_command(payload).caused_by(OfReplay(run=old.pk))
            yield ReplayRequest(msgspec.structs.replace(request, **_at(entry, ledger)), rule)


def name_of_copy(checkpoint_id: int) -> str:
    """Return the name under which a replay saves a checkpoint that the old run had without a name."""
    return f"replayed {checkpoint_id}"


def _at(entry: Entry, ledger: Ledger) -> dict[str, int]:
    """Return the schedule of an entry, empty before the first step: it then takes effect at once.

    Also of commands that nobody else may schedule.
    """
    place: Place = entry.place
    if place.step == 0 and not place.roll_backs:
        return {}
    at = {"at_step": place.step}
    if place.epoch is not None and place.epoch > 0:
        at["at_epoch"] = place.epoch
    return at | {"at_roll_backs": place.roll_backs} if ledger.has_roll_backs else at


def _saved_anew(old: Run, ledger: Ledger) -> dict[int, str]:
    """Return the checkpoints that the new run saves on command, with their new names.

    They are those to which a rollback or a branch went, of a recipe: its training keeps the unnamed ones by the
    clock, and saves some of them by it. A script saves and keeps its own.
    """
    if old.recipe_id is None:
        return {}
    saved = [each.what for each in ledger.entries if isinstance(each.what, Saved)]
    targets = {each.what.target for each in ledger.entries if isinstance(each.what, Applied)}
    branches = Branch.objects.filter(source=old).values_list("run_id", flat=True)
    began = [ledger.saved_as(sha256) for sha256 in origins(branches).values()]
    targets |= {entry.what for entry in began if entry is not None and isinstance(entry.what, Saved)}
    wanted = {target.id for target in targets if target is not None}
    names = Counter(each.name for each in saved)
    # One that a command named is saved by that command.
    is_named = {each.id for each in saved if each.reason == "named" and names[each.name] == 1 and _is_a_name(each.name)}
    return {number: name_of_copy(number) for number in wanted - is_named}


def _wanted(command: Command, target: Saved | None, saved_anew: dict[int, str]) -> str:
    """Return how the new run names the checkpoint to which a rollback went."""
    if target is None:
        new = command.new_value if isinstance(command.new_value, dict) else {}
        return str(new.get("step", 0))
    if target.id in saved_anew:
        return saved_anew[target.id]
    is_unique = target.reason == "named" and command.run.recipe_id is not None
    return target.name if is_unique else str(target.step)


def _is_a_name(text: str) -> bool:
    """Return whether a training takes a text for the name of a checkpoint, and for nothing else."""
    return not text.isdecimal() and text not in ("newest", "best")


def _rule_of(command: Command) -> str:
    """Return what the rule that asked for a command was called, "" if a person did. Rules may be deleted since."""
    by_rule = command.rule_id is not None or command.alerts.exists()
    return command.author_name if by_rule else command.replayed_rule


def _id(new: Run, what: str) -> UUID:
    return uuid5(NAMESPACE_OID, f"steersman: {what}, replayed on run {new.pk}")
