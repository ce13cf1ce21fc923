"""Operations of a run's page, for members and guests: history, facts that no event contains, queue position, pins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from ninja import Router

from runs.access.guest_view import authors_version, names_version, replace_alert_names, replace_names
from runs.access.roles import COMMANDING_ROLES, Viewer
from runs.api.answers import BINARY, JSON, SharedAnswers, encoded, if_changed, tag_of
from runs.api.callers import READERS, caller_of, commanded_run, visible_run_and_viewer
from runs.api.errors import ApiError
from runs.api.history import details, history, version
from runs.api.history_columns import with_columns
from runs.api.schemas.errors import ErrorOut
from runs.api.schemas.page import DetailsOut, HistoryOut, PinIn, PinsOut, PlaceAnswer
from runs.models import Run
from runs.protocol.events import AlertChanged, CommandChanged
from runs.recording.queue_places import place_of

router = Router(tags=["page of a run"])
ERRORS = {401: ErrorOut, 404: ErrorOut, 422: ErrorOut}
# A history has at most a few megabytes before compression, so this holds those of the most watched runs.
_histories = SharedAnswers(most_bytes=32 << 20)
FORMS: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "json": (JSON, msgspec.json.encode),
    "columns": (BINARY, with_columns),
}


@router.get(
    "/{int:run_id}/history/",
    url_name="history",
    auth=READERS,
    response={200: HistoryOut, **ERRORS},
    summary="Everything that the page of a run shows",
)
def history_of_run(request: HttpRequest, run_id: int, form: Literal["json", "columns"] = "json") -> HttpResponse:
    """As of event `seq`: a viewer applies the events after it. The newest entries of each list are returned, oldest
    first.

    With a share token, names are replaced by roles. With `form=columns`, the answer is of the type
    `application/octet-stream`: the numbers of the charts are in binary columns, as the page of a run reads them.
    """
    run, viewer = visible_run_and_viewer(request, run_id)
    tag = tag_of(version(run), _names(run, viewer), details(run, viewer.role), form)
    # The other things that the answer depends on.
    audience = (run.pk, viewer.is_guest, viewer.role in COMMANDING_ROLES, form)
    content_type, encode = FORMS[form]

    def answer() -> HttpResponse:
        found = _histories.get(audience, tag, lambda: _read_history(run.pk, viewer, form, encode))
        return found.response(request, content_type)

    return if_changed(request, tag, answer)


def _read_history(run_id: int, viewer: Viewer, form: str, encode: Callable[[Any], bytes]) -> tuple[str, bytes]:
    """Return the tag of a history, and the history encoded in a form.

    The tag is made of two parts. The version was read first, so that a later event or compaction makes the tag
    outdated. The details are hashed as they are in the answer, because they may change back and forth.
    """
    while True:
        run = Run.objects.get(pk=run_id)
        as_of, names = version(run), _names(run, viewer)
        told = history(run, viewer.role)
        if viewer.is_guest:
            replace_names([*told["commands"], *_events_of(told, CommandChanged.kind)])
            replace_alert_names([*told["alerts"], *_events_of(told, AlertChanged.kind)])
        if _names(run, viewer) == names:
            tag = tag_of(as_of, names, {name: told[name] for name in DetailsOut.model_fields}, form)
            return tag, encode(told)


def _events_of(told: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [event for event in told["events"] if event["kind"] == kind]


def _names(run: Run, viewer: Viewer) -> list[Any]:
    return names_version(run) if viewer.is_guest else authors_version(run)


@router.get(
    "/{int:run_id}/details/",
    url_name="details",
    auth=READERS,
    response={200: DetailsOut, **ERRORS},
    summary="Facts about the run that no event contains",
)
def details_of_run(request: HttpRequest, run_id: int) -> HttpResponse:
    """Attempts and their ends, the remaining checkpoints, knobs, environment, parameters."""
    run, viewer = visible_run_and_viewer(request, run_id)
    answer = encoded(details(run, viewer.role))
    return if_changed(request, tag_of(answer.content), lambda: answer)


@router.get(
    "/{int:run_id}/place/",
    url_name="place",
    auth=READERS,
    response={200: PlaceAnswer, **ERRORS},
    summary="The position of a queued run",
)
def place_of_run(request: HttpRequest, run_id: int) -> dict[str, Any]:
    """Repeat the request while the run waits. Runs ahead that the caller may not see are only counted.

    With a share token, host names are omitted.
    """
    run, viewer = visible_run_and_viewer(request, run_id)
    place = place_of(run, caller_of(request).runs(), names_host=not viewer.is_guest)
    return {"place": place.as_wire() if place else None}


@router.post(
    "/{int:run_id}/pins/",
    url_name="pins",
    response={200: PinsOut, 403: ErrorOut, **ERRORS},
    summary="Pin a chart on the pages of all runs of the project",
)
def pin_chart(request: HttpRequest, run_id: int, body: PinIn) -> dict[str, Any]:
    """For operators and owners. The pages of members and of share links show pinned charts first."""
    run = commanded_run(request, run_id)
    try:
        run.project.pin_chart(body.chart, body.pinned)
    except ValidationError as error:
        raise ApiError(422, error.messages[0], "chart") from error
    return {"pinned": run.project.pinned_charts}
