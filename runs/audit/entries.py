"""Writing entries of the audit, and deleting old ones."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from allauth.core import context
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils import timezone

from runs.access.addresses import address_of
from runs.models import COMMAND_LINE, AuditEntry, AuditKind, Project

# Old entries are deleted when new ones are written: at most this often per process, and this many at once.
PRUNE_EVERY_S = 3600.0
MOST_PRUNED = 10_000

_pruned_at: float | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """The author of an action: an account, or a name without one; `address` is empty if it is unknown."""

    name: str
    number: int | None
    address: str


def record(
    kind: AuditKind,
    *,
    by: Actor | None = None,
    visitor: User | None = None,
    person: User | None = None,
    project: Project | None = None,
    run: int | None = None,
    what: str = "",
    detail: str = "",
    request: HttpRequest | None = None,
) -> None:
    """Write one entry in the caller's transaction. By default, `by` is the author of `request`, or of the current
    request.

    `visitor` is the person if the request has no account, as before a login. `what` and `detail` must not contain a
    secret.
    """
    by = by or actor_of(request or context.request, visitor)
    AuditEntry.objects.create(
        kind=kind,
        actor_name=by.name,
        actor_number=by.number,
        address=by.address,
        person_name=person.get_username() if person else "",
        person_number=person.pk if person else None,
        project_name=project.name if project else "",
        project_number=project.pk if project else None,
        run_number=run,
        what=what[:200],
        detail=detail[:500],
    )
    if _is_prune_due():
        prune()


def actor_of(request: HttpRequest | None, visitor: User | None = None) -> Actor:
    """Return the author of a request: the creator of a token, the logged in user, or else `visitor`.

    Without a request it is the command line.
    """
    if request is None:
        return Actor(COMMAND_LINE, None, "")
    user = _user_of(request) or visitor
    address = address_of(request) or ""
    return Actor(user.get_username(), user.pk, address) if user else Actor("", None, address)


def prune() -> int:
    """Delete entries older than STEERSMAN_AUDIT_DAYS; return how many. 0 days keeps all entries."""
    global _pruned_at
    _pruned_at = time.monotonic()
    if not settings.STEERSMAN_AUDIT_DAYS:
        return 0
    old = AuditEntry.objects.filter(at__lt=timezone.now() - timedelta(days=settings.STEERSMAN_AUDIT_DAYS))
    some = list(old.order_by("at").values_list("pk", flat=True)[:MOST_PRUNED])
    return AuditEntry.objects.filter(pk__in=some).delete()[0]


def _is_prune_due() -> bool:
    return _pruned_at is None or time.monotonic() - _pruned_at >= PRUNE_EVERY_S


def _user_of(request: HttpRequest) -> User | None:
    caller: Any = getattr(request, "auth", None)
    user = getattr(caller, "user", None) or getattr(request, "user", None)
    return user if isinstance(user, User) and user.is_authenticated else None
