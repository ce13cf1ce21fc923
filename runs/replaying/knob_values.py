"""The values that commands gave to knobs, by knob and parameter group."""

from __future__ import annotations

from collections.abc import Iterable

from runs.models import Command
from runs.protocol.commands import RollBack
from steersman.files.changed_knobs import EVERY_GROUP, ChangedKnobs


def values_after(commands: Iterable[Command], before: ChangedKnobs) -> ChangedKnobs:
    """Return the last values after applied `commands`, in the order of their effect.

    `before` are those of earlier ones. Commands of other kinds than set_knob and roll_back must be left out.
    """
    changed = dict(before)
    for command in commands:
        if command.kind == RollBack.kind:
            # It has the values of all knobs after it: for those that commands had changed, these values count.
            stood = command.effective_value or {}
            names = {*changed, command.arguments.get("knob")}
            changed = {name: stood[name] for name in names if name in stood}
            continue
        group = str(command.arguments.get("group") or EVERY_GROUP)
        new = command.new_value if isinstance(command.new_value, dict) else {group: command.new_value}
        values = {name: value for name, value in new.items() if value is not None}
        known = {} if EVERY_GROUP in values else changed.get(command.arguments["knob"], {})
        changed[command.arguments["knob"]] = known | values
    return changed
