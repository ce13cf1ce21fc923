"""Commands, knobs and outcomes in words, for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from runs.commands.legal_states import help_of, legal_states, not_offered
from runs.models import Command, CommandState, Run
from runs.protocol.argument_text import takes
from runs.protocol.commands import COMMANDS, RollBack, RunCommand
from steersman.spec import ValueSpec

NO_KNOBS = "none yet: the training declares them when it starts"


def commands_as_wire(run: Run) -> list[dict[str, Any]]:
    """Return the commands that a run accepts now, with help, arguments and the states in which each may be sent."""
    refused = not_offered(run)
    return [
        {
            "command": kind,
            "help": help_of(command, run),
            "arguments": {name: takes(command, name) for name in command.__struct_fields__},
            "legal_in": sorted(legal_states(command, run)),
        }
        for kind, command in COMMANDS.items()
        if kind not in refused
    ]


def list_in_words(run: Run) -> Iterator[str]:
    """Yield lines about the commands that a run accepts now, those that it refuses and why, and its knobs."""
    yield f"Run {run.pk} ({run.name}) is {run.state} at step {run.step}."
    yield ""
    yield "Commands:"
    refused = not_offered(run)
    for kind, command in COMMANDS.items():
        if kind in refused:
            continue
        yield f"  {kind:<16} {help_of(command, run)}"
        for name in command.__struct_fields__:
            yield f"  {'':<16} {name}={takes(command, name)}{_default(command, name)}"
    yield ""
    yield "Not now:"
    for kind, reason in refused.items():
        yield f"  {kind:<16} {reason}"
    yield ""
    yield f"Knobs: {NO_KNOBS}" if not run.knobs else "Knobs:"
    specs = run.knob_specs
    for fields in run.knobs:
        spec = specs[fields["name"]]
        yield f"  {spec.name:<16} {_present(fields)}; takes {_range(spec)}. {spec.help}".rstrip()


def outcome_in_words(command: Command) -> str:
    """Return the outcome of a command as a sentence."""
    words = f"{command.kind} {command.pk}: {command.state}"
    if command.state == CommandState.APPLIED:
        words += f" at step {command.step}" if command.step is not None else ""
        words += f" by {command.ranks} ranks" if (command.ranks or 1) > 1 else ""
        if command.new_value is not None:
            words += f": {_short(command.old_value)} → {_short(command.new_value)}"
        if command.effective_value is not None and command.kind != RollBack.kind:
            words += f" (in effect {_short(command.effective_value)})"
    elif command.state in (CommandState.SENT, CommandState.DELIVERED) and command.at_step is not None:
        words += f", to take effect at step {command.at_step}"
    elif command.state in (CommandState.SENT, CommandState.DELIVERED) and command.at_epoch is not None:
        words += f", to take effect at the end of epoch {command.at_epoch}"
    if command.state in (CommandState.SENT, CommandState.DELIVERED) and command.at_roll_backs is not None:
        words += f" after {command.at_roll_backs} rollbacks"
    if command.outcome:
        return f"{words}. {command.outcome}"
    return f"{words}."


def _default(command: type[RunCommand], name: str) -> str:
    default = dict(zip(reversed(command.__struct_fields__), reversed(command.__struct_defaults__), strict=False))
    return "" if default.get(name) in (None, "") else f" (default {_short(default[name])})"


def _present(fields: dict[str, Any]) -> str:
    words = _short(fields.get("value"))
    return words if fields.get("effective") is None else f"{words} (in effect {_short(fields['effective'])})"


def _range(spec: ValueSpec) -> str:
    return f"{spec.takes()} {spec.unit}".rstrip()


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
