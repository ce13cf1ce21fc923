"""Alerts of a run: listing, acknowledging and snoozing them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from ninja import Query, Router

from runs.access.author_names import name_of
from runs.alerts.rulebook.snoozing import CannotSnooze, snooze
from runs.api.callers import commanded_run_and_viewer, visible_run
from runs.api.errors import ApiError
from runs.api.schemas.alerts import AlertOut, AlertsPage, SnoozeIn
from runs.api.schemas.errors import ErrorOut
from runs.models import Alert, AlertState, Run, Severity, alert_as_wire
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
    summary="Acknowledge an alert",
)
def acknowledge_alert(request: HttpRequest, run_id: int, alert_id: int) -> dict[str, Any]:
    """Return the alert after the request. An alert that is already acknowledged, or cleared, is not changed."""
    run, viewer = commanded_run_and_viewer(request, run_id)
    recorded.acknowledge(run.pk, alert_id, viewer.user_id, name_of(viewer, run.project_id))
    return alert_as_wire(_alert_of(run, alert_id))


@router.post(
    "/{int:run_id}/alerts/{int:alert_id}/snooze/",
    response={200: AlertOut, 403: ErrorOut, **ERRORS},
    summary="Snooze the cause of an alert",
)
def snooze_alert(request: HttpRequest, run_id: int, alert_id: int, body: SnoozeIn) -> dict[str, Any]:
    """Create a rule of the run that records alerts of the detector in this series without messages or actions."""
    run, viewer = commanded_run_and_viewer(request, run_id)
    alert = _alert_of(run, alert_id)
    until = None if body.hours is None else timezone.now() + timedelta(hours=body.hours)
    try:
        snooze(alert.pk, until, viewer.user_id)
    except CannotSnooze as reason:
        if str(reason) == "code":
            raise ApiError(
                422,
                _(
                    "This alert cannot be snoozed: it comes from the training script, not from a rule. You can "
                    "acknowledge it."
                ),
                "id",
            ) from None
        raise ApiError(
            422, _("The alert has already been cleared: give the length of the snooze in hours."), "hours"
        ) from None
    return alert_as_wire(alert)


def _alert_of(run: Run, alert_id: int) -> Alert:
    alert = run.alerts.filter(pk=alert_id).first()
    if alert is None:
        raise ApiError(404, _("This run has no such alert."), "id")
    return alert
