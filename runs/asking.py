"""Asking something of a run: from a request to a durable command row. Used by socket, pages and command line."""

from __future__ import annotations

import msgspec
from django.db import transaction
from django.utils import timezone

from runs import feed
from runs.access import Viewer
from runs.commands import Request
from runs.events import CommandChanged
from runs.lifecycle import settle_command
from runs.models import Command, CommandState, Run, as_wire


class NotAllowed(Exception):
    """The viewer's role does not include commanding; the text says which role does."""


def ask(run_id: int, request: Request, viewer: Viewer) -> Command:
    """Record the command of `viewer` and tell the run's owner; return its row.

    The same id again returns the row of the first time and changes nothing. A command that is illegal in
    the run's present state is recorded as refused, with the reason. Raises `NotAllowed`.
    """
    if not viewer.may_command:
        raise NotAllowed("Viewers watch; ask an owner of the project for the operator role to send commands.")
    return record(run_id, request, author_id=viewer.user_id, author_name=viewer.name)


def record(run_id: int, request: Request, *, author_id: int | None, author_name: str) -> Command:
    """Record a command by a person, or by a rule or signal that `author_name` describes."""
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run_id)
        command, created = Command.objects.get_or_create(
            pk=request.id,
            defaults={
                "run": run,
                "kind": request.command.kind,
                "arguments": msgspec.to_builtins(request.command),
                "author_id": author_id,
                "author_name": author_name,
                "reason": request.reason,
                "sent_at": timezone.now(),
            },
        )
        if command.run_id != run_id:
            raise NotAllowed("This id belongs to a command of another run: choose another.")
        if not created:
            return command
        feed.append(run_id, CommandChanged(**as_wire(command)))
        if run.state not in request.command.legal_in:
            settle_command(command, CommandState.REFUSED, outcome=f"The run is {run.state}.")
        else:
            feed.announce_command(run_id)
    return command
