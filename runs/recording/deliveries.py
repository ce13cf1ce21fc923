"""Rows of messages about alerts that are to be sent, written in the transaction in which an alert begins or clears.

`manage.py send_alerts` sends them. Nothing here waits for a network.
"""

from __future__ import annotations

from django.utils import timezone

from runs.models import Alert, AlertDelivery, AlertDestination, DeliveryMoment, DeliveryState, Severity


def queue(alert: Alert, moment: str) -> int:
    """Write a row for each destination to be notified; return their number. Call inside the alert's transaction.

    These are the destinations of the run's project that are on and whose `least_severity` the alert has. Later moments
    are only sent to destinations that were notified of its beginning, and its end only to those that ask for it.
    """
    told = AlertDestination.objects.filter(
        project__runs=alert.run_id,
        is_on=True,
        least_severity__in=[each for each in Severity if each.rank <= Severity(alert.severity).rank],
    )
    if moment != DeliveryMoment.BEGAN:
        began = AlertDelivery.objects.filter(alert=alert, moment=DeliveryMoment.BEGAN)
        told = told.filter(pk__in=began.exclude(state=DeliveryState.DROPPED).values("destination_id"))
    if moment == DeliveryMoment.CLEARED:
        told = told.filter(tells_cleared=True)
    now = timezone.now()
    rows = [
        AlertDelivery(alert=alert, destination_id=pk, moment=moment, due_at=now)
        for pk in told.values_list("pk", flat=True)
    ]
    AlertDelivery.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)
