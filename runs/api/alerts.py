"""Alerts of a run: what went wrong, and saying that one has seen it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Router

from runs.access.roles import operators_only
from runs.api.callers import visible_run, visible_run_and_viewer
from runs.api.errors import ApiError
from runs.api.schemas import AlertOut, AlertsPage, ErrorOut
from runs.models import AlertState, Severity, alert_as_wire
from runs.recording import alerts as recorded

router = Router(tags=["alerts"])
ERRORS = {401: ErrorOut, 404: ErrorOut, 422: ErrorOut}


@router.get(
    "/{int:run_id}/alerts/",
    url_name="alerts",
    response={200: AlertsPage, **ERRORS},
    summary="Alerts, newest first",
)
def list_alerts(
    request: HttpRequest,
    run_id: int,
    state: AlertState | None = None,
    severity: Severity | None = None,
    limit: int = Query(50, ge=1, le=200),
    offset: int = Query(0, ge=0, le=10**9),
) -> dict[str, Any]:
    alerts = visible_run(request, run_id).alerts.order_by("-pk")
    if state is not None:
        alerts = alerts.filter(state=state)
    if severity is not None:
        alerts = alerts.filter(severity=severity)
    return {"count": alerts.count(), "items": [alert_as_wire(alert) for alert in alerts[offset : offset + limit]]}


@router.post(
    "/{int:run_id}/alerts/{int:alert_id}/acknowledge/",
    response={200: AlertOut, 403: ErrorOut, **ERRORS},
    summary="Say that one has seen an alert",
)
def acknowledge_alert(request: HttpRequest, run_id: int, alert_id: int) -> dict[str, Any]:
    """The alert as it is then. One that somebody acknowledged before, or that is cleared, stays as it was."""
    run, viewer = visible_run_and_viewer(request, run_id)
    if not viewer.may_command:
        raise ApiError(403, operators_only())
    recorded.acknowledge(run.pk, alert_id, viewer.user_id, viewer.name)
    alert = run.alerts.filter(pk=alert_id).first()
    if alert is None:
        raise ApiError(404, _("There is no such alert of this run."), "id")
    return alert_as_wire(alert)
