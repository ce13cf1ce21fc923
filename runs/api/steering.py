"""Knobs, checkpoints and attempts of a run, the queue, and the agents that start runs.

The order of the queue is changed by commands.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import uuid4

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from ninja import Field, Query, Router, Status

from runs.access.roles import display_name, operators_only
from runs.agents.offers import NotOffered, agents_for, request_run
from runs.agents.reporting import AgentRefused, NotAllowedToOffer, take_report
from runs.api.agents.schemas import AgentOut, AgentsPage, OrdersOut, ReportBody, RequestedRunOut, RunRequestBody
from runs.api.branching.answers import as_out, family_as_out
from runs.api.branching.schemas import AgainBody, BranchBody, BranchOut, FamilyOut, RemarksOut
from runs.api.callers import (
    TRAINERS,
    caller_of,
    commanded_run,
    commanded_run_and_viewer,
    train_token_only,
    visible_run,
    visible_run_and_viewer,
)
from runs.api.errors import ApiError
from runs.api.history import attempt_as_wire, checkpoints_as_wire
from runs.api.schemas.errors import ErrorOut
from runs.api.schemas.queue import PlaceOut, QueueIn, QueueOut
from runs.api.schemas.steering import AttemptsPage, CheckpointOut, CheckpointsPage, KeepIn, KnobsPage
from runs.branching.family import branch_of
from runs.branching.opening import open_branch
from runs.branching.requests import Author, BranchRequest, CannotBranch
from runs.models import LARGEST_ID, Agent, Checkpoint
from runs.queueing.board import HostBoard, board
from runs.recording.checkpoints import mark_checkpoint
from runs.recording.liveness import agent_is_living
from runs.recording.queue import After, NotQueueable, enqueue, home_of, start_command
from runs.recording.queue_places import place_of
from runs.replaying.again import AgainRequest, CannotRunAgain, compare_address, remarks, run_again, script_of
from runs.series.downloads import patch_response

router = Router(tags=["steering"])
queue = Router(tags=["queue"])
agents = Router(tags=["agents"])
ERRORS = {401: ErrorOut, 404: ErrorOut, 422: ErrorOut}


class OpenedOut(BranchOut):
    """A branch that was opened, its position in the queue, and the command that starts it."""

    name: str
    state: str
    place: PlaceOut | None = Field(
        description="The run's position in the queue, null if the run does not wait for a device"
    )
    command: str = Field(description="The command that starts the run on the host of its checkpoint")


class AgainOut(RemarksOut):
    """A run that repeats another one, its position in the queue, and the command that starts it."""

    run: int
    name: str
    state: str
    place: PlaceOut | None = Field(
        description="The run's position in the queue, null if the run does not wait for a device"
    )
    command: str = Field(description="The command that starts the run")
    compare: str = Field(description="Address of the page that compares both runs")


@router.get("/{int:run_id}/knobs/", response={200: KnobsPage, **ERRORS}, summary="Knobs of a run and their values")
def list_knobs(request: HttpRequest, run_id: int) -> dict[str, Any]:
    """Empty until the training has declared its knobs. `set_knob` changes them."""
    knobs = visible_run(request, run_id).knobs
    return {"count": len(knobs), "items": knobs}


@router.get(
    "/{int:run_id}/checkpoints/",
    url_name="checkpoints",
    response={200: CheckpointsPage, **ERRORS},
    summary="Checkpoints, newest first",
)
def list_checkpoints(
    request: HttpRequest,
    run_id: int,
    reason: Checkpoint.Reason | None = None,
    limit: int = Query(50, ge=1, le=200),
    offset: int = Query(0, ge=0, le=10**9),
) -> dict[str, Any]:
    """The checkpoints that exist. `manage.py train --run-id N --from NAME` resumes from one."""
    run, viewer = visible_run_and_viewer(request, run_id)
    checkpoints = run.checkpoints.order_by("-pk")
    if reason is not None:
        checkpoints = checkpoints.filter(reason=reason)
    page = list(checkpoints[offset : offset + limit])
    return {"count": checkpoints.count(), "items": checkpoints_as_wire(run.pk, page, viewer.role)}


@router.post(
    "/{int:run_id}/checkpoints/{int:checkpoint_id}/keep/",
    response={200: CheckpointOut, 403: ErrorOut, **ERRORS},
    summary="Mark a checkpoint, so that no rule removes it",
)
def keep_checkpoint(request: HttpRequest, run_id: int, checkpoint_id: int, body: KeepIn) -> dict[str, Any]:
    """For operators and owners. The retention rules of the project remove others once the run has ended."""
    run, viewer = commanded_run_and_viewer(request, run_id)
    checkpoint = run.checkpoints.filter(pk=checkpoint_id).first() if checkpoint_id <= LARGEST_ID else None
    if checkpoint is None:
        raise ApiError(404, _("The run no longer has this checkpoint. Newer ones have replaced it."), "checkpoint_id")
    mark_checkpoint(checkpoint, body.keep)
    return checkpoints_as_wire(run.pk, [checkpoint], viewer.role)[0]


@router.get(
    "/{int:run_id}/attempts/",
    response={200: AttemptsPage, **ERRORS},
    exclude_unset=True,
    summary="Attempts, newest first",
)
def list_attempts(
    request: HttpRequest,
    run_id: int,
    limit: int = Query(50, ge=1, le=200),
    offset: int = Query(0, ge=0, le=10**9),
) -> dict[str, Any]:
    """Operators and owners also get the traceback of each."""
    run, viewer = visible_run_and_viewer(request, run_id)
    attempts = run.attempts.order_by("-number")
    page = attempts[offset : offset + limit]
    return {"count": attempts.count(), "items": [attempt_as_wire(attempt, viewer.role) for attempt in page]}


@router.get(
    "/{int:run_id}/patch/",
    response={200: None, 403: ErrorOut, **ERRORS},
    summary="Uncommitted changes of an attempt's source, as a patch",
)
def patch(
    request: HttpRequest,
    run_id: int,
    attempt: int | None = Query(None, ge=1, le=LARGEST_ID, description="Default: the newest attempt that has one"),
) -> HttpResponse:
    """For operators and owners: `git apply` turns the commit into the code of the run. 404 if there were no local
    changes.
    """
    run = commanded_run(request, run_id)
    found = run.patched_attempt(attempt)
    if found is None:
        raise ApiError(404, _("No uncommitted changes were recorded, so there is no patch."), "attempt")
    return patch_response(found)


@router.get(
    "/{int:run_id}/branches/",
    response={200: FamilyOut, **ERRORS},
    summary="Family of a run",
    tags=["branches"],
)
def list_branches(request: HttpRequest, run_id: int) -> dict[str, Any]:
    """The run, its ancestors and its descendants, each before its branches; at most 200."""
    return family_as_out(visible_run(request, run_id), caller_of(request))


@router.post(
    "/{int:run_id}/branches/",
    response={200: OpenedOut, 201: OpenedOut, 403: ErrorOut, 409: ErrorOut, **ERRORS},
    summary="Branch: open a run at a checkpoint of this one",
    tags=["branches"],
)
def create_branch(request: HttpRequest, run_id: int, body: BranchBody) -> Status[dict[str, Any]]:
    """For operators and owners. The run itself continues.

    201 with the new run, or 200 with the branch that was opened under this `id` before. 409 if the checkpoint cannot be
    used, or the branch cannot be queued.
    """
    source, viewer = commanded_run_and_viewer(request, run_id)
    caller = caller_of(request)
    if caller.token is not None and caller.token.run_id is not None:
        raise ApiError(403, _("A token for one run cannot open another: create a token for the project."))
    asked = BranchRequest(
        checkpoint=str(body.checkpoint),
        name=body.name,
        parameters=body.parameters,
        knobs=body.knobs,
        start=body.start,
        reason=body.reason,
        id=body.id or uuid4(),
    )
    try:
        run, is_new = open_branch(source, asked, Author(viewer.name, viewer.user_id))
    except CannotBranch as error:
        raise ApiError(409 if error.field in ("checkpoint", "start", "id") else 422, str(error), error.field) from error
    branch = branch_of(run)
    assert branch is not None
    place = place_of(run, caller.runs())
    opened = as_out(branch, caller) | {
        "name": run.name,
        "state": run.state,
        "place": place.as_wire() if place else None,
        "command": start_command(run),
    }
    return Status(201 if is_new else 200, opened)


@router.get(
    "/{int:run_id}/again/",
    response={200: RemarksOut, **ERRORS},
    summary="The parts of a run that cannot be repeated",
    tags=["replays"],
)
def show_again(request: HttpRequest, run_id: int) -> dict[str, Any]:
    """Read it before the run is run again."""
    return {"remarks": remarks(visible_run(request, run_id))}


@router.post(
    "/{int:run_id}/again/",
    response={200: AgainOut, 201: AgainOut, 403: ErrorOut, 409: ErrorOut, **ERRORS},
    summary="Run a run again: the same configuration, seed and interventions",
    tags=["replays"],
)
def create_again(request: HttpRequest, run_id: int, body: AgainBody) -> Status[dict[str, Any]]:
    """For operators and owners. With interventions, the new run starts paused, and resumes by itself once it has all
    commands. 201 for a new run, 200 if the id has already made this one. 409 if it cannot be queued, if its source has
    not saved the checkpoint of a branch, or if the id belongs to another run."""
    old, viewer = commanded_run_and_viewer(request, run_id)
    caller = caller_of(request)
    if caller.token is not None and caller.token.run_id is not None:
        raise ApiError(403, _("A token for one run cannot open another: create a token for the project."))
    source = commanded_run(request, body.source) if body.source is not None else None
    told = remarks(old) if body.interventions else []
    asked = AgainRequest(body.name, body.interventions, body.start, source, body.id or uuid4())
    try:
        run, is_new = run_again(old, asked, Author(viewer.name, viewer.user_id))
    except CannotRunAgain as error:
        raise ApiError(409, str(error), error.field) from error
    place = place_of(run, caller.runs())
    return Status(201 if is_new else 200, {
        "run": run.pk,
        "name": run.name,
        "state": run.state,
        "place": place.as_wire() if place else None,
        "command": start_command(run, script_of(old)),
        "compare": compare_address(old, run),
        "remarks": told,
    })  # fmt: skip


@queue.get("/", response={200: QueueOut, **ERRORS}, summary="Hosts, with the runs that train there and those that wait")
def show_queue(request: HttpRequest) -> dict[str, Any]:
    """The hosts by name; the last entry, without a name, has the runs that any host may start. Other projects' runs are
    only counted.
    """
    hosts = board(caller_of(request).runs(), (), timezone.now())
    return {"count": len(hosts), "items": [_host(each) for each in hosts]}


@router.post(
    "/{int:run_id}/queue/",
    response={200: PlaceOut, 403: ErrorOut, 409: ErrorOut, **ERRORS},
    summary="Queue a run",
    tags=["queue"],
)
def queue_run(request: HttpRequest, run_id: int, body: QueueIn) -> dict[str, Any]:
    """For a run that was created, or that ended with work left. 409 if its state does not allow it."""
    run = commanded_run(request, run_id)
    visible = caller_of(request).runs()
    after = After(body.after, body.after_condition) if body.after else None
    try:
        enqueue(run.pk, body.host or home_of(run), after=after, priority=body.priority, among=visible)
    except NotQueueable as error:
        raise ApiError(422 if error.field == "after" else 409, str(error), error.field) from error
    run.refresh_from_db()
    place = place_of(run, visible)
    if place is None:
        raise ApiError(
            409,
            _(
                "The run is no longer in the queue: it has just been started, or withdrawn from the queue. Get the run "
                "again to see its state."
            ),
            "queue",
        )
    return place.as_wire()


def _host(host: HostBoard) -> dict[str, Any]:
    counted = ("name", "heartbeat_at", "is_away", "running_more", "running_hidden", "waiting_more", "waiting_hidden")
    running = [
        {"run": row.run.pk, "state": row.state, "percent": row.percent, "left_s": row.left_s} for row in host.running
    ]
    waiting = [{"run": row.run.pk, "place": row.place.as_wire()} for row in host.waiting]
    return {name: getattr(host, name) for name in counted} | {"running": running, "waiting": waiting}


@agents.post(
    "/report/",
    auth=TRAINERS,
    response={200: OrdersOut, 409: ErrorOut, 403: ErrorOut, **ERRORS},
    summary="Report an agent",
)
def report_agent(request: HttpRequest, body: ReportBody) -> dict[str, Any]:
    """For tokens with the scope `train`. The answer has the runs to start. 409 if another agent has the name."""
    token = caller_of(request).token
    if token is None:
        raise ApiError(403, train_token_only(), "Authorization")
    try:
        return asdict(take_report(token, body.report()))
    except NotAllowedToOffer as error:
        raise ApiError(403, str(error)) from error
    except AgentRefused as error:
        raise ApiError(409, str(error), "name") from error


@agents.get("/", response={200: AgentsPage, 401: ErrorOut}, summary="Agents that start runs for you")
def list_agents(request: HttpRequest) -> dict[str, Any]:
    """The agents of the projects where the caller is an operator or owner, with what they offer."""
    found = [_agent_as_out(agent) for agent in _agents(request)]
    return {"count": len(found), "items": found}


@agents.post(
    "/{int:agent_id}/runs/",
    response={201: RequestedRunOut, 403: ErrorOut, **ERRORS},
    summary="Request a run from an agent",
)
def create_agent_run(request: HttpRequest, agent_id: int, body: RunRequestBody) -> Status[dict[str, Any]]:
    """For operators and owners. The run is queued, and the agent starts it once it has a free slot."""
    caller = caller_of(request)
    if not caller.may_change:
        raise ApiError(403, operators_only())
    agent = next((each for each in _agents(request) if each.pk == agent_id), None)
    if agent is None:
        raise ApiError(404, _("There is no such agent, or you may not start runs in its project."), "agent_id")
    try:
        run = request_run(
            agent, body.command, body.parameters, user=caller.user, name=body.name, restarts=body.restarts
        )
    except NotOffered as error:
        raise ApiError(422, str(error), error.field) from error
    run.refresh_from_db()
    page = request.build_absolute_uri(run.get_absolute_url())
    return Status(201, {"run": run.pk, "name": run.name, "state": run.state, "page": page})


def _agents(request: HttpRequest) -> list[Agent]:
    caller = caller_of(request)
    found = agents_for(caller.user)
    if caller.token is None:
        return found
    if caller.token.run_id is not None:
        raise ApiError(403, _("A token for one run cannot open another: create a token for the project."))
    return [agent for agent in found if agent.project_id == caller.token.project_id]


def _agent_as_out(agent: Agent) -> AgentOut:
    return AgentOut(
        id=agent.pk,
        name=agent.name,
        project=agent.project.slug,
        owner=display_name(agent.created_by),
        is_online=agent_is_living(agent, timezone.now()),
        slots=agent.slots,
        gpus=agent.gpus,
        commands=agent.commands,
    )
