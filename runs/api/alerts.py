"""Alerts of a run."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Query, Router

from runs.api.callers import visible_run
from runs.api.schemas import AlertsPage, ErrorOut
from runs.models import AlertState, Severity, alert_as_wire

router = Router(tags=["alerts"])


@router.get(
    "/{int:run_id}/alerts/",
    response={200: AlertsPage, 401: ErrorOut, 404: ErrorOut, 422: ErrorOut},
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
