"""The last values of a script's knobs, with which its next attempt begins."""

from __future__ import annotations

from pathlib import Path

from runs.models import Command, CommandState, Run
from runs.protocol.commands import RollBack, SetKnob
from steersman.agent.folders import attempt_folder
from steersman.files.changed_knobs import EVERY_GROUP, ChangedKnobs, read_changed_knobs


def changed_knobs(run: Run, data: Path) -> ChangedKnobs:
    """Return the last values that commands gave to knobs before the next attempt of `run`.

    An attempt that started over began without any: what was changed before it is left out.
    """
    began_at, changed = 0, ChangedKnobs()
    for number in range(run.attempt, 0, -1):
        told = read_changed_knobs(attempt_folder(data, run.pk, number))
        if told is not None:
            began_at, changed = number, told
            break
    applied = Command.objects.filter(
        run_id=run.pk, kind__in=(SetKnob.kind, RollBack.kind), state=CommandState.APPLIED, attempt__gte=began_at
    )
    for command in applied.order_by("applied_at", "step", "sent_at"):
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
