"""What a share link shows of people: their role in place of their name."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

import msgspec

from runs.models import COMMAND_LINE, Command, Membership, Run
from runs.protocol.events import CommandChanged

# Who sent a command and is no member any more, with an account or without.
FORMER_MEMBER = "former member"
# Authors that are no persons. Of a person whose account was deleted a command keeps the name alone.
NO_PERSONS = frozenset({COMMAND_LINE, *signal.Signals.__members__})
# An event's frame begins with its number and kind.
_HEAD_CHARACTERS = 64
_COMMAND_MARK = f'"kind":"{CommandChanged.kind}"'


def names_somebody(frame: str) -> bool:
    """Tell whether an event's frame carries a member's name."""
    return _COMMAND_MARK in frame[:_HEAD_CHARACTERS]


def nameless_frames(frames: Iterable[str]) -> list[str]:
    """Return the frames of `command` events with roles in place of names. Costs two queries."""
    events = [msgspec.json.decode(frame) for frame in frames]
    replace_names(events)
    return [msgspec.json.encode(event).decode() for event in events]


def names_version(run: Run) -> list[Any]:
    """Return JSON-ready values that change if `replace_names` puts others in place of the authors of a run's commands.

    That is when roles in its project change, or accounts are deleted; new commands come with events. Costs two queries.
    """
    roles = Membership.objects.filter(project=run.project_id).order_by("user").values_list("user", "role")
    return [run.project_id, list(roles), run.commands.filter(author__isnull=False).count()]


def replace_names(commands: Iterable[dict[str, Any]]) -> None:
    """Put roles in place of authors in `commands`, which have an `id` and an `author` as on the wire.

    What no person sent (a signal, the command line) keeps its author. Costs two queries.
    """
    listed = list(commands)
    found = Command.objects.filter(pk__in={command["id"] for command in listed}, author__isnull=False)
    authors = {str(pk): (user, project) for pk, user, project in found.values_list("pk", "author", "run__project")}
    members = Membership.objects.filter(
        user__in={user for user, _ in authors.values()}, project__in={project for _, project in authors.values()}
    )
    roles = {(user, project): str(role) for user, project, role in members.values_list("user", "project", "role")}
    for command in listed:
        author = authors.get(command["id"])
        if author is not None:
            command["author"] = roles.get(author, FORMER_MEMBER)
        elif command["author"] not in NO_PERSONS:
            command["author"] = FORMER_MEMBER
