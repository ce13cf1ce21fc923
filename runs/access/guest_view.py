"""The view of a share link: roles of people in place of their names."""

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
# Authors that are not persons. Of a person whose account was deleted a command keeps the name alone.
NO_PERSONS = frozenset({COMMAND_LINE, *signal.Signals.__members__})
# An event's frame begins with its number and kind.
_HEAD_CHARACTERS = 64
_MARKS = tuple(f'"kind":"{kind}"' for kind in (CommandChanged.kind, AlertChanged.kind))


def names_somebody(frame: str) -> bool:
    """Return whether an event's frame carries a member's name."""
    head = frame[:_HEAD_CHARACTERS]
    return any(mark in head for mark in _MARKS)


def nameless_frames(frames: Iterable[str]) -> list[str]:
    """Return the frames of `command` and `alert` events with roles in place of names. Costs two queries a kind."""
    events = [msgspec.json.decode(frame) for frame in frames]
    replace_names(event for event in events if event["kind"] == CommandChanged.kind)
    replace_alert_names(event for event in events if event["kind"] == AlertChanged.kind)
    return [msgspec.json.encode(event).decode() for event in events]


def names_version(run: Run) -> list[Any]:
    """Return JSON-ready values that change if others are put in place of the names in a run's commands and alerts.

    That is when roles in its project change, or accounts of authors are deleted; what is new comes with events. Costs
    two queries.
    """
    roles = Membership.objects.filter(project=run.project_id).order_by("user").values_list("user", "role")
    return [run.project_id, list(roles), *authors_version(run)]


def authors_version(run: Run) -> list[Any]:
    """Return JSON-ready values that change when the account of an author is deleted, and its id with it. One query."""
    return [run.commands.filter(author__isnull=False).count()]


def replace_names(commands: Iterable[dict[str, Any]]) -> None:
    """Put roles in place of authors in `commands`, which have an `id` and an `author` as on the wire.

    A command that no person sent (but a rule, a signal, the command line) keeps its author. Costs two queries, and one
    if rules sent some.
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
    """A destination of alerts may be called as a person is: leave it out of the reason."""
    cause = command_cause(command["cause"] or {})
    if isinstance(cause, OfLink):
        hidden = msgspec.structs.replace(cause, destination="")
        command["cause"], command["reason"] = stored(hidden), str(hidden)


def replace_alert_names(alerts: Iterable[dict[str, Any]]) -> None:
    """Put roles in place of who acknowledged `alerts`, which have an `id` and `by` as on the wire.

    Costs two queries if somebody did, none otherwise.
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
    """Return the commands that rules sent, from alerts, which remain if the rule is deleted."""
    if not ids:
        return set()
    return {str(pk) for pk in Alert.objects.filter(command_id__in=ids).values_list("command_id", flat=True)}


def _roles(people: Iterable[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Return the role of each of `people`, pairs of user and project, who is a member."""
    asked = set(people)
    members = Membership.objects.filter(
        user__in={user for user, _ in asked}, project__in={project for _, project in asked}
    )
    return {(user, project): str(role) for user, project, role in members.values_list("user", "project", "role")}
