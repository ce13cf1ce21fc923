"""Single-use keys that open the socket of one run for a session or a token."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from runs.access.grants import Grant, grant_of
from runs.access.tokens import SECRET_BYTES, digest
from runs.models import AccessToken, Run, Ticket

TICKET_LIFETIME = timedelta(seconds=30)


def issue_ticket(user: User, run: Run, session_key: str = "", token: AccessToken | None = None) -> str:
    """Return a new single-use ticket for `run`'s socket; only its hash is stored. Expired ones are removed.

    It stands for the session, or for the token, and for the user alone where neither is given.
    """
    now = timezone.now()
    Ticket.objects.filter(expires_at__lt=now - TICKET_LIFETIME).delete()
    value = secrets.token_urlsafe(SECRET_BYTES)
    Ticket.objects.create(
        digest=digest(value),
        user=user,
        session_key=session_key,
        token=token,
        run=run,
        expires_at=now + TICKET_LIFETIME,
    )
    return value


def redeem_ticket(value: str, run_id: int) -> Grant | None:
    """Return the grant of a ticket for `run_id` and use it up.

    None where it is unknown, used, expired or for another run, or where its session has ended.
    """
    now = timezone.now()
    unused = Ticket.objects.filter(digest=digest(value), run_id=run_id, used_at=None, expires_at__gt=now)
    if unused.update(used_at=now) != 1:
        return None
    ticket = Ticket.objects.select_related("user", "token").get(digest=digest(value))
    if ticket.user is None:
        return None
    return grant_of(ticket.user, run_id, ticket.session_key, ticket.token)
