"""The queue of messages in the database: which process sends each, and its outcome.

Any number of senders may run. Each destination gets one message at a time. A sender holds it with a lease that it
renews, so if a sender is killed, another one sends the message with the same Message-ID.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import Max, Q, QuerySet
from django.utils import timezone

from runs.alerts.sending import timing
from runs.models import AlertDelivery, AlertDestination, DeliveryState, DestinationKind, Severity
from steersman.marked_text import gettext_noop

LEASE = timedelta(seconds=20)
ROBOTS = frozenset({DestinationKind.DINGTALK, DestinationKind.WECOM})
# The number of alerts in one message; its text lists the first of them.
MOST_TOGETHER = 200
LONGEST_ERROR = 500
_UNSENT = (DeliveryState.WAITING, DeliveryState.SENDING)


@dataclass(frozen=True, slots=True)
class Claim:
    """A message that this process sends: rows of one destination, oldest first."""

    message: UUID
    destination: AlertDestination
    deliveries: tuple[AlertDelivery, ...]


def due(now: datetime) -> dict[int, bool]:
    """Return the destinations with due messages, each with whether its last try failed."""
    lapsed = Q(state=DeliveryState.SENDING, claimed_until__lte=now)
    rows = AlertDelivery.objects.filter(Q(state=DeliveryState.WAITING, due_at__lte=now) | lapsed)
    return {pk: bool(tries) for pk, tries in rows.order_by().values_list("destination_id").annotate(Max("tries"))}


def claim(destination_id: int, now: datetime) -> Claim | None:
    """Return the next message of a destination, held for LEASE; None if none is due."""
    with transaction.atomic():
        # The row of the destination is the lock of its queue.
        destination = AlertDestination.objects.select_for_update().filter(pk=destination_id).first()
        rows = AlertDelivery.objects.filter(destination_id=destination_id, state__in=_UNSENT)
        if destination is None or rows.filter(state=DeliveryState.SENDING, claimed_until__gt=now).exists():
            return None
        if not destination.is_on:
            rows.update(state=DeliveryState.DROPPED, error=gettext_noop("The destination is switched off."))
            return None
        chosen = _begun(rows, now) if rows.filter(message__isnull=False).exists() else _fresh(destination, rows, now)
        if not chosen:
            return None
        message = chosen[0].message or uuid4()
        AlertDelivery.objects.filter(pk__in=[row.pk for row in chosen]).update(
            state=DeliveryState.SENDING, message=message, claimed_until=now + LEASE
        )
    return Claim(message, destination, tuple(chosen))


def renew(messages: Iterable[UUID], now: datetime) -> None:
    """Renew the lease on messages that are being sent."""
    AlertDelivery.objects.filter(message__in=list(messages), state=DeliveryState.SENDING).update(
        claimed_until=now + LEASE
    )


def record_sent(claim: Claim) -> None:
    _held(claim).update(
        state=DeliveryState.SENT,
        sent_at=timezone.now(),
        tries=claim.deliveries[0].tries + 1,
        error="",
        claimed_until=None,
    )


def record_failure(claim: Claim, error: str, is_final: bool, now: datetime) -> None:
    """Record why a message was not sent. It is retried unless that `is_final`, or it was tried for a day."""
    tries = claim.deliveries[0].tries + 1
    again = now + timing.retry_after(tries)
    ends = is_final or again > claim.deliveries[0].created_at + timing.GIVE_UP_AFTER
    _held(claim).update(
        state=DeliveryState.FAILED if ends else DeliveryState.WAITING,
        due_at=again,
        tries=tries,
        error=error[:LONGEST_ERROR],
        claimed_until=None,
    )


def _held(claim: Claim) -> QuerySet[AlertDelivery]:
    return AlertDelivery.objects.filter(message=claim.message, state=DeliveryState.SENDING)


def _begun(rows: QuerySet[AlertDelivery], now: datetime) -> list[AlertDelivery]:
    """Return a message that was tried before, unchanged; until it is due, its destination gets no other."""
    begun = rows.filter(message__isnull=False).select_related("alert").order_by("pk")
    first = begun.filter(Q(due_at__lte=now) | Q(state=DeliveryState.SENDING)).first()
    if first is None:
        again = begun.aggregate(again=Max("due_at"))["again"]
        rows.filter(message=None, due_at__lte=now).update(due_at=again)
        return []
    return list(begun.filter(message=first.message))


def _fresh(destination: AlertDestination, rows: QuerySet[AlertDelivery], now: datetime) -> list[AlertDelivery]:
    """Return the alerts to send together now, and postpone those that have to wait."""
    quiet_end = timing.quiet_end(now, destination.quiet_from, destination.quiet_until, destination.quiet_zone)
    waiting = list(rows.filter(message=None).select_related("alert").order_by("pk"))
    told = [row for row in waiting if quiet_end is None or row.alert.severity == Severity.CRITICAL]
    if quiet_end is not None:
        _put_off([row for row in waiting if row not in told], quiet_end)
    if not told:
        return []
    lately = AlertDelivery.objects.filter(destination=destination, sent_at__gt=now - timing.FLOOD_TIME)
    moment = timing.send_at(
        [row.created_at for row in told],
        destination.digest_minutes,
        lately.aggregate(last=Max("sent_at"))["last"],
        lately.order_by().values("message").distinct().count(),
        timing.ROBOT_GAP if destination.kind in ROBOTS else timing.GAP,
    )
    if moment > now:
        _put_off(told, moment)
        return []
    return told[:MOST_TOGETHER]


def _put_off(rows: list[AlertDelivery], until: datetime) -> None:
    AlertDelivery.objects.filter(pk__in=[row.pk for row in rows]).update(due_at=until)
