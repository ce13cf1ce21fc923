"""What the page of a run asks for: its history, what no event tells, its place in line; for members and for guests."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from runs.access.guest_view import replace_alert_names, replace_names
from runs.api.answers import encoded
from runs.api.callers import READERS, caller_of, visible_run_and_viewer
from runs.api.history import details, history
from runs.api.history_schemas import DetailsOut, HistoryOut, PlaceAnswer
from runs.api.schemas import ErrorOut
from runs.protocol.events import AlertChanged, CommandChanged
from runs.recording.queue_places import place_of

router = Router(tags=["page of a run"])
ERRORS = {401: ErrorOut, 404: ErrorOut, 422: ErrorOut}


@router.get(
    "/{int:run_id}/history/",
    url_name="history",
    auth=READERS,
    response={200: HistoryOut, **ERRORS},
    summary="Everything that the page of a run shows",
)
def history_of_run(request: HttpRequest, run_id: int) -> HttpResponse:
    """As of event `seq`: a viewer applies the events after it. The newest of each list are kept, oldest first.

    A share token reads roles in place of names.
    """
    run, viewer = visible_run_and_viewer(request, run_id)
    told = history(run, viewer.role)
    if viewer.is_guest:
        replace_names([*told["commands"], *(event for event in told["events"] if event["kind"] == CommandChanged.kind)])
        replace_alert_names(
            [*told["alerts"], *(event for event in told["events"] if event["kind"] == AlertChanged.kind)]
        )
    return encoded(told)


@router.get(
    "/{int:run_id}/details/",
    url_name="details",
    auth=READERS,
    response={200: DetailsOut, **ERRORS},
    summary="What no event tells",
)
def details_of_run(request: HttpRequest, run_id: int) -> HttpResponse:
    """Attempts and how they ended, the checkpoints that are left, knobs, environment, parameters."""
    run, viewer = visible_run_and_viewer(request, run_id)
    return encoded(details(run, viewer.role))


@router.get(
    "/{int:run_id}/place/",
    url_name="place",
    auth=READERS,
    response={200: PlaceAnswer, **ERRORS},
    summary="The place of a queued run in line",
)
def place_of_run(request: HttpRequest, run_id: int) -> dict[str, Any]:
    """To be asked again while it waits. Runs ahead that the caller may not see are counted alone.

    A share token reads no name of a host.
    """
    run, viewer = visible_run_and_viewer(request, run_id)
    place = place_of(run, caller_of(request).runs(), names_host=not viewer.is_guest)
    return {"place": place.as_wire() if place else None}
