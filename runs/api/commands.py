"""Commands of a run: listing and sending them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Router, Status

from runs.api.callers import READERS, caller_of, visible_run
from runs.api.errors import ApiError, no_such_run
from runs.api.schemas.commands import CommandIn, CommandOut, CommandsPage, WrittenOut, WrittenQuery
from runs.api.schemas.errors import ErrorOut
from runs.commands.record import record_as
from runs.commands.written import written_with
from runs.markdown.rendering import rendered
from runs.models import Command, CommandState, as_wire
from runs.protocol.commands import BRANCH, COMMANDS, parse_command

router = Router(tags=["commands"])
ERRORS = {401: ErrorOut, 404: ErrorOut, 422: ErrorOut}


@router.get("/{int:run_id}/commands/", response={200: CommandsPage, **ERRORS}, summary="Commands, newest first")
def list_commands(
    request: HttpRequest,
    run_id: int,
    state: CommandState | None = None,
    kind: str | None = Query(None, description="Such as set_knob"),
    limit: int = Query(50, ge=1, le=200),
    offset: int = Query(0, ge=0, le=10**9),
) -> dict[str, Any]:
    commands = visible_run(request, run_id).commands.order_by("-sent_at", "-id")
    if state is not None:
        commands = commands.filter(state=state)
    if kind is not None:
        if kind not in (*COMMANDS, BRANCH):
            known = ", ".join(sorted((*COMMANDS, BRANCH)))
            raise ApiError(422, _("Give kind as one of %(known)s.") % {"known": known}, "kind")
        commands = commands.filter(kind=kind)
    return {"count": commands.count(), "items": [as_wire(command) for command in commands[offset : offset + limit]]}


@router.get(
    "/{int:run_id}/commands/html/",
    url_name="written",
    auth=READERS,
    response={200: WrittenOut, **ERRORS},
    summary="Notes and reasons as HTML",
)
def written_as_html(request: HttpRequest, run_id: int, query: Query[WrittenQuery]) -> dict[str, Any]:
    """What people wrote in Markdown with these commands, without scripts, styles and pictures.

    Commands that the run does not have are left out.
    """
    found = []
    for each in visible_run(request, run_id).commands.filter(pk__in=query.command):
        written = written_with(each)
        found.append({"id": each.pk, "note": rendered(written.note), "reason": rendered(written.reason)})
    return {"items": found}


@router.get("/{int:run_id}/commands/{uuid:command_id}/", response={200: CommandOut, **ERRORS}, summary="One command")
def one_command(request: HttpRequest, run_id: int, command_id: UUID) -> dict[str, Any]:
    command = visible_run(request, run_id).commands.filter(pk=command_id).first()
    if command is None:
        raise ApiError(404, _("This run has no such command."), "id")
    return as_wire(command)


@router.post(
    "/{int:run_id}/commands/",
    response={200: CommandOut, 201: CommandOut, 403: ErrorOut, 409: ErrorOut, **ERRORS},
    summary="Send a command to a run",
)
def create_command(request: HttpRequest, run_id: int, body: CommandIn) -> Status[dict[str, Any]]:
    """201 with the new command, or 200 with the one that was recorded under this `id` before.

    A command that is illegal in the run's state is recorded too, with state `refused` and the reason in `outcome`.
    """
    run = visible_run(request, run_id)
    viewer = caller_of(request).viewer(run)
    if viewer is None:
        raise no_such_run()
    asked = parse_command(body.model_dump(exclude_none=True))
    known = Command.objects.filter(pk=asked.id).values_list("run_id", flat=True).first()
    if known not in (None, run.pk):
        raise ApiError(409, _("This id belongs to a command of another run: choose another id."), "id")
    command = record_as(run.pk, asked, viewer)
    return Status(201 if known is None else 200, as_wire(command))
