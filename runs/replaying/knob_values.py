"""The values that commands gave to knobs, by knob and parameter group."""

from __future__ import annotations

from collections.abc import Iterable

from runs.models import Command
from runs.protocol.commands import RollBack
from steersman.files.changed_knobs import ChangedKnobs, after_roll_back, after_set_knob


def values_after(commands: Iterable[Command], before: ChangedKnobs) -> ChangedKnobs:
    """Return the last values after applied `commands`, in the order of their effect.

    `before` are those of earlier ones. Commands of other kinds than set_knob and roll_back must be left out.
    """
    changed = before
    for command in commands:
        arguments = command.arguments
        if command.kind == RollBack.kind:
            changed = after_roll_back(changed, command.effective_value or {}, str(arguments.get("knob") or ""))
        else:
            group = str(arguments.get("group") or "")
            changed = after_set_knob(changed, str(arguments["knob"]), group, command.new_value)
    return changed
