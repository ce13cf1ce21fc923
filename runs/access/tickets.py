"""Single-use keys that open the socket of one run for a session or a token.

A ticket is signed and stored nowhere until it is used: asking for one writes nothing. It holds the key of a session,
which no script may learn, so its content is sealed.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

import msgspec
from django.conf import settings
from django.contrib.auth.models import User
from django.core.signing import BadSignature, TimestampSigner, b64_decode, b64_encode
from django.db import IntegrityError
from django.utils import timezone
from django.utils.encoding import force_bytes

from runs.access.grants import Grant
from runs.access.tokens import digest
from runs.models import AccessToken, Run, UsedTicket

TICKET_LIFETIME = timedelta(seconds=30)
SALT = "runs.access.tickets"
NONCE_BYTES = 16
# The usual colon may not stand in the name of a subprotocol, as which a page offers its ticket.
SEPARATOR = "."
# The clocks of several portals may differ: what one forgets must have expired for all of them.
KEPT_AFTER_EXPIRY = timedelta(hours=1)


def issue_ticket(user: User, run: Run, session_key: str = "", token: AccessToken | None = None) -> str:
    """Return a new single-use ticket for `run`'s socket. It asks the database nothing.

    It stands for the session, or for the token, and for the user alone where neither is given.
    """
    if token is not None:
        grant = Grant(run.pk, user.pk, token_id=token.pk)
    else:
        grant = Grant(run.pk, user.pk, session_key=session_key, auth_hash=user.get_session_auth_hash())
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = nonce + _sealed(msgspec.msgpack.encode(grant), nonce, settings.SECRET_KEY)
    return _signer().sign(b64_encode(sealed).decode())


def redeem_ticket(value: str, run_id: int) -> Grant | None:
    """Return the grant of a ticket for `run_id` and use it up, None where it is unusable or used.

    Whether its session or token still holds is for `check_grants` to say.
    """
    grant = read_ticket(value, run_id)
    return grant if grant is not None and spend_ticket(value) else None


def read_ticket(value: str, run_id: int) -> Grant | None:
    """Return the grant of a ticket, None where it is not ours, has expired or is for another run. Asks no database."""
    try:
        sealed = b64_decode(_signer().unsign(value, max_age=TICKET_LIFETIME).encode())
    except (BadSignature, ValueError):
        return None
    nonce, content = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        try:
            grant = msgspec.msgpack.decode(_sealed(content, nonce, key), type=Grant)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Sealed with another key, the one before or after a change.
            continue
        return grant if grant.run_id == run_id else None
    return None


def spend_ticket(value: str) -> bool:
    """Use a ticket up; return False where it was used before. The unique key decides between two that come at once."""
    expires_at = timezone.now() + TICKET_LIFETIME + KEPT_AFTER_EXPIRY
    try:
        UsedTicket.objects.create(digest=digest(value), expires_at=expires_at)
    except IntegrityError:
        return False
    return True


def forget_expired_tickets() -> None:
    """Remove what is kept of tickets that nobody can use any more."""
    UsedTicket.objects.filter(expires_at__lt=timezone.now()).delete()


def _signer() -> TimestampSigner:
    return TimestampSigner(sep=SEPARATOR, salt=SALT)


def _sealed(content: bytes, nonce: bytes, secret: str | bytes) -> bytes:
    """Seal content, or open it again: exclusive or with a stream that the secret and a nonce of its own give.

    The signature keeps it from being changed; SHAKE needs no HMAC around a key that stands first.
    """
    key = hashlib.sha256(f"{SALT}.seal".encode() + force_bytes(secret)).digest()
    stream = hashlib.shake_256(key + nonce).digest(len(content))
    return (int.from_bytes(content) ^ int.from_bytes(stream)).to_bytes(len(content))
