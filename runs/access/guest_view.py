"""The view of a share link, which replaces people's names by their roles."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

import msgspec

from runs.models import COMMAND_LINE, Alert, Command, Membership, Run
from runs.protocol.causes import OfLink, command_cause, stored
from runs.protocol.events import AlertChanged, CommandChanged

# The author of a command who is no longer a member, with or without an account.
FORMER_MEMBER = "former member"
# Authors that are not people. If an account was deleted, its commands keep only the name.
NO_PERSONS = frozenset({COMMAND_LINE, *signal.Signals.__members__})
# An event's frame begins with its number and kind.
_HEAD_CHARACTERS = 64
_MARKS = tuple(f'"kind":"{kind}"' for kind in (CommandChanged.kind, AlertChanged.kind))


def names_somebody(frame: str) -> bool:
    """Return whether an event's frame carries a member's name."""
    head = frame[:_HEAD_CHARACTERS]
    return any(mark in head for mark in _MARKS)


def nameless_frames(frames: Iterable[str]) -> list[str]:
    """Return the frames of `command` and `alert` events with roles instead of names. Costs two queries per kind."""
    events = [msgspec.json.decode(frame) for frame in frames]
    replace_names(event for event in events if event["kind"] == CommandChanged.kind)
    replace_alert_names(event for event in events if event["kind"] == AlertChanged.kind)
    return [msgspec.json.encode(event).decode() for event in events]


def names_version(run: Run) -> list[Any]:
    """Return JSON-ready values that change if the roles shown in a run's commands and alerts change.

    They change with roles in the project, and when the account of an author is deleted; new rows arrive as events.
    Costs two queries.
    """
    roles = Membership.objects.filter(project=run.project_id).order_by("user").values_list("user", "role")
    return [run.project_id, list(roles), *authors_version(run)]


def authors_version(run: Run) -> list[Any]:
    """Return JSON-ready values that change if an author's account, and its id, is deleted. Costs one query."""
    return [run.commands.filter(author__isnull=False).count()]


def replace_names(commands: Iterable[dict[str, Any]]) -> None:
    """Replace authors by roles in `commands`, which have an `id` and an `author` as on the wire.

    A command that a rule, a signal or the command line sent keeps its author. Costs two queries, and a third if rules
    sent some.
    """
    listed = list(commands)
    if not listed:
        return
    found = Command.objects.filter(pk__in={command["id"] for command in listed}, author__isnull=False)
    authors = {str(pk): (user, project) for pk, user, project in found.values_list("pk", "author", "run__project")}
    roles = _roles(authors.values())
    unknown = [each["id"] for each in listed if each["id"] not in authors and each["author"] not in NO_PERSONS]
    by_rules = _sent_by_rules(unknown)
    for command in listed:
        author = authors.get(command["id"])
        command["author_id"] = None
        _hide_destination(command)
        if author is not None:
            command["author"] = roles.get(author, FORMER_MEMBER)
        elif command["author"] not in NO_PERSONS and command["id"] not in by_rules:
            command["author"] = FORMER_MEMBER


def _hide_destination(command: dict[str, Any]) -> None:
    """Remove the name of an alert destination from the reason, because it may be a person's name."""
    cause = command_cause(command["cause"] or {})
    if isinstance(cause, OfLink):
        hidden = msgspec.structs.replace(cause, destination="")
        command["cause"], command["reason"] = stored(hidden), str(hidden)


def replace_alert_names(alerts: Iterable[dict[str, Any]]) -> None:
    """Replace the names of those who acknowledged `alerts`, which have an `id` and `by` as on the wire, by roles.

    Costs two queries if somebody acknowledged one, otherwise none.
    """
    named = [alert for alert in alerts if alert["by"]]
    if not named:
        return
    found = Alert.objects.filter(pk__in={alert["id"] for alert in named}, acknowledged_by__isnull=False)
    people = {pk: (user, project) for pk, user, project in found.values_list("pk", "acknowledged_by", "run__project")}
    roles = _roles(people.values())
    for alert in named:
        alert["by"] = roles.get(people.get(alert["id"], (0, 0)), FORMER_MEMBER)


def _sent_by_rules(ids: list[str]) -> set[str]:
    """Return the ids of commands that rules sent. The alerts link them, even if the rule was deleted."""
    if not ids:
        return set()
    return {str(pk) for pk in Alert.objects.filter(command_id__in=ids).values_list("command_id", flat=True)}


def _roles(people: Iterable[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Return the roles of those of `people`, pairs of user and project, who are members."""
    asked = set(people)
    members = Membership.objects.filter(
        user__in={user for user, _ in asked}, project__in={project for _, project in asked}
    )
    return {(user, project): str(role) for user, project, role in members.values_list("user", "project", "role")}
