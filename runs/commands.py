"""Typed commands: what may be asked of a run, and how what was sent is parsed.

Knows neither Django nor torch. A command is parsed once, at the edge (page, socket, command line);
inside, only these classes travel.
"""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID, uuid4

import msgspec


class InvalidCommand(ValueError):
    """What was sent is no command. `field` names the culprit; the text says what to do."""

    def __init__(self, message: str, field: str = "command") -> None:
        super().__init__(message)
        self.field = field


class RunCommand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something asked of a run. `legal_in` are the run states in which it may be sent."""

    kind: ClassVar[str]
    title: ClassVar[str]
    help: ClassVar[str]
    legal_in: ClassVar[frozenset[str]]


class Stop(RunCommand, frozen=True, kw_only=True):
    """Finish the step, save a checkpoint and end; `train --run-id` goes on from there."""

    kind: ClassVar[str] = "stop"
    title: ClassVar[str] = "Stop"
    help: ClassVar[str] = "Finish the current step, save a checkpoint and end. The run can be continued later."
    legal_in: ClassVar[frozenset[str]] = frozenset({"running", "paused"})


COMMANDS: dict[str, type[RunCommand]] = {command.kind: command for command in (Stop,)}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed request: the idempotency key, the command and the reason a person gave."""

    id: UUID
    command: RunCommand
    reason: str = ""


def parse_command(payload: dict[str, Any]) -> Request:
    """Return the request of `{"command": "stop", "id": …, "arguments": {…}, "reason": …}`.

    `id` is optional: one is made. Raises `InvalidCommand` with a sentence for the sender.
    """
    kind = payload.get("command")
    if not isinstance(kind, str) or kind not in COMMANDS:
        known = ", ".join(sorted(COMMANDS))
        raise InvalidCommand(f"There is no such command; use one of: {known}.", "command")
    arguments = payload.get("arguments") or {}
    if not isinstance(arguments, dict):
        raise InvalidCommand("Send arguments as an object of names and values.", "arguments")
    try:
        command = msgspec.convert(arguments, COMMANDS[kind])
    except msgspec.ValidationError as error:
        raise InvalidCommand(f"{kind}: {error}", "arguments") from error
    reason = payload.get("reason") or ""
    if not isinstance(reason, str) or len(reason) > 500:
        raise InvalidCommand("Give the reason as text of at most 500 characters.", "reason")
    return Request(id=_parse_id(payload.get("id")), command=command, reason=reason)


def _parse_id(value: object) -> UUID:
    if value is None or value == "":
        return uuid4()
    try:
        return UUID(str(value))
    except ValueError:
        raise InvalidCommand("Give id as a UUID, or leave it out.", "id") from None
