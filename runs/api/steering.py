"""What a run can be steered by and resumed from: its knobs, checkpoints and attempts."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Query, Router

from runs.api.callers import visible_run, visible_run_and_viewer
from runs.api.history import attempt_as_wire
from runs.api.schemas import AttemptsPage, CheckpointsPage, ErrorOut, KnobsPage
from runs.models import Checkpoint

router = Router(tags=["steering"])
ERRORS = {401: ErrorOut, 404: ErrorOut, 422: ErrorOut}


@router.get("/{int:run_id}/knobs/", response={200: KnobsPage, **ERRORS}, summary="Knobs of a run and where they stand")
def list_knobs(request: HttpRequest, run_id: int) -> dict[str, Any]:
    """None before the training has said what it has. `set_knob` changes them."""
    knobs = visible_run(request, run_id).knobs
    return {"count": len(knobs), "items": knobs}


@router.get(
    "/{int:run_id}/checkpoints/", response={200: CheckpointsPage, **ERRORS}, summary="Checkpoints, newest first"
)
def list_checkpoints(
    request: HttpRequest,
    run_id: int,
    reason: Checkpoint.Reason | None = None,
    limit: int = Query(50, ge=1, le=200),
    offset: int = Query(0, ge=0, le=10**9),
) -> dict[str, Any]:
    """Those that are kept. `manage.py train --run-id N --from NAME` resumes from one."""
    checkpoints = visible_run(request, run_id).checkpoints.order_by("-pk")
    if reason is not None:
        checkpoints = checkpoints.filter(reason=reason)
    return {"count": checkpoints.count(), "items": list(checkpoints[offset : offset + limit])}


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
    """Operators and owners read the traceback of each, too."""
    run, viewer = visible_run_and_viewer(request, run_id)
    attempts = run.attempts.order_by("-number")
    page = attempts[offset : offset + limit]
    return {"count": attempts.count(), "items": [attempt_as_wire(attempt, viewer.role) for attempt in page]}
