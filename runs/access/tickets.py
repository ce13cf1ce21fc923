"""Single-use keys that open the socket of one run for a session or a token.

Issuing a ticket writes nothing; it is stored once it is used. It contains a session key, which no script may read, so
it is encrypted and signed (Fernet).
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta

import msgspec
from cryptography.fernet import InvalidToken
from django.contrib.auth.models import User
from django.db import IntegrityError
from django.utils import timezone

from runs.access.grants import Grant
from runs.access.sealing import fernet
from runs.access.tokens import digest
from runs.models import AccessToken, Run, UsedTicket

TICKET_LIFETIME = timedelta(seconds=30)
PURPOSE = "runs.access.tickets"
# The clocks of several portals may differ: a ticket is forgotten only after it has expired on all of them.
KEPT_AFTER_EXPIRY = timedelta(hours=1)


def issue_ticket(user: User, run: Run, session_key: str = "", token: AccessToken | None = None) -> str:
    """Return a new single-use ticket for `run`'s socket. Does not query the database.

    It belongs to the session or to the token, or only to the user if neither is given.
    """
    if token is not None:
        grant = Grant(run.pk, user.pk, token_id=token.pk)
    else:
        grant = Grant(run.pk, user.pk, session_key=session_key, auth_hash=user.get_session_auth_hash())
    # A page sends its ticket as the name of a subprotocol, which may not contain padding.
    return fernet(PURPOSE).encrypt(msgspec.msgpack.encode(grant)).decode().rstrip("=")


def read_ticket(value: str, run_id: int) -> Grant | None:
    """Return the grant of a ticket, None if it is forged, has expired or is for another run. Does not query the
    database.

    `check_grants` checks whether its session or token is still valid, and `spend_ticket` whether it was used before.
    """
    try:
        padded = value + "=" * (-len(value) % 4)
        # Base64 can write the same bytes in several ways, and a ticket in another form would open a second socket.
        if urlsafe_b64encode(urlsafe_b64decode(padded)).decode() != padded or value.endswith("="):
            return None
        content = fernet(PURPOSE).decrypt(padded, ttl=int(TICKET_LIFETIME.total_seconds()))
    except (InvalidToken, ValueError):
        return None
    grant = msgspec.msgpack.decode(content, type=Grant)
    return grant if grant.run_id == run_id else None


def spend_ticket(value: str) -> bool:
    """Use up a ticket; return False if it was used before. A unique key decides between concurrent uses."""
    expires_at = timezone.now() + TICKET_LIFETIME + KEPT_AFTER_EXPIRY
    try:
        UsedTicket.objects.create(digest=digest(value), expires_at=expires_at)
    except IntegrityError:
        return False
    return True


def forget_expired_tickets() -> None:
    """Remove the rows of tickets that have expired."""
    UsedTicket.objects.filter(expires_at__lt=timezone.now()).delete()
