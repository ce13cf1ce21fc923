"""Commands, knobs and their values in the admin, as rows of a table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from runs.alerts.wording.texts import reason_of
from runs.commands.written import written_with
from runs.markdown.rendering import rendered
from runs.models import Command, Run
from steersman.spec import ValueSpec

SET_KNOB = "set_knob"


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One command. `change` is "old → new"; `terms` says when and under which condition it takes effect.

    `note` is the HTML of a note, `reason` that of a person's reason; the reason of a rule, a link or a replay is text.
    """

    command: Command
    note: str
    arguments: str
    reason: str
    terms: list[str]
    change: str
    effective: str


@dataclass(frozen=True, slots=True)
class KnobRow:
    """A knob, with its limits and its current value."""

    name: str
    value: str
    effective: str
    allowed: str
    unit: str
    help: str


def command_rows(commands: list[Command]) -> list[CommandRow]:
    return [_command_row(command) for command in commands]


def _command_row(command: Command) -> CommandRow:
    written = written_with(command)
    return CommandRow(
        command=command,
        note=rendered(written.note),
        arguments=_arguments(command),
        reason=rendered(written.reason) or reason_of(command),
        terms=_terms(command),
        change=_change(command),
        effective="" if command.effective_value is None else as_text(command.effective_value),
    )


def knob_rows(run: Run) -> list[KnobRow]:
    specs = run.knob_specs
    return [_knob_row(specs[fields["name"]], fields) for fields in run.knobs]


def _knob_row(spec: ValueSpec, fields: dict[str, Any]) -> KnobRow:
    effective = fields.get("effective")
    return KnobRow(
        name=spec.name,
        value=as_text(fields.get("value")),
        effective="" if effective is None else as_text(effective),
        allowed=spec.takes().translated(_),
        unit=spec.unit,
        help=spec.help,
    )


def _arguments(command: Command) -> str:
    """Return the arguments in one line: a knob with its value, a name, a text."""
    given = {name: value for name, value in command.arguments.items() if value not in (None, "")}
    if command.kind == SET_KNOB:
        # The empty text is a value too.
        given |= {"value": ""} if command.arguments.get("value") == "" else {}
        knob = given.pop("knob", "")
        sign, asked = ("×", given.pop("factor")) if "factor" in given else ("=", given.pop("value", None))
        group = f" [{given['group']}]" if given.get("group") else ""
        return f"{knob}{group} {sign} {as_text(asked)}"
    if len(given) == 1 and isinstance(next(iter(given.values())), str):
        return str(next(iter(given.values())))
    return ", ".join(f"{name}={as_text(value)}" for name, value in given.items())


def _terms(command: Command) -> list[str]:
    found = []
    if command.at_step is not None:
        found.append(_("at step %(step)s") % {"step": command.at_step})
    if command.at_epoch is not None:
        found.append(_("at the end of epoch %(epoch)s") % {"epoch": command.at_epoch})
    if command.at_roll_backs is not None:
        found.append(_("after %(count)s rollbacks") % {"count": command.at_roll_backs})
    if command.expected_state:
        found.append(_("only while %(state)s") % {"state": command.get_expected_state_display()})
    if command.expected_value is not None:
        found.append(_("only if it is %(value)s") % {"value": as_text(command.expected_value)})
    if command.expires_at is not None:
        found.append(
            _("until %(time)s") % {"time": date_format(localtime(command.expires_at), "Y-m-d H:i:s")}
        )  # fmt: skip
    return found


def _change(command: Command) -> str:
    if command.old_value is None and command.new_value is None:
        return ""
    if command.old_value is None:
        return as_text(command.new_value)
    return f"{as_text(command.old_value)} → {as_text(command.new_value)}"


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
