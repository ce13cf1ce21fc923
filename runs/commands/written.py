"""The texts that people wrote with a command."""

from __future__ import annotations

from dataclasses import dataclass

from runs.models import Command
from runs.protocol.commands import Note


@dataclass(frozen=True, slots=True)
class Written:
    """Texts in Markdown, "" if there is none."""

    note: str
    reason: str


def written_with(command: Command) -> Written:
    """Return the texts of the author; a reason that a rule, a link or a replay gave is not one."""
    note = command.arguments.get("text") if command.kind == Note.kind else ""
    return Written(note=note if isinstance(note, str) else "", reason="" if command.cause else command.reason)
