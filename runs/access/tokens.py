"""Tokens of scripts and share links: shown once, stored as a hash, revocable at any time."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from runs.access.notices import token_first_used
from runs.access.roles import COMMANDING_ROLES, operators_only, role_in
from runs.models import AccessToken, Project, Role, Run, TokenScope

logger = logging.getLogger(__name__)
MARK = "stm_"
SECRET_BYTES = 32
PREFIX_CHARACTERS = 12
LAST_USED_EVERY = timedelta(minutes=1)
# Scopes that a script may present. A share token opens the page of its run, and the requests of that page.
BEARER_SCOPES = frozenset({TokenScope.VIEW, TokenScope.COMMAND})


class TokenRefused(ValueError):
    """The token cannot be created. `field` names the field with the error; the text says what to do."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


def create_token(
    creator: User,
    project: Project,
    scope: str,
    *,
    name: str,
    run: Run | None = None,
    expires_at: datetime | None = None,
) -> tuple[AccessToken, str]:
    """Return the row of a new token and its value, which is not stored: show it once.

    Raises `TokenRefused` if the creator is not an operator or owner, or the scope, run or expiry does not fit.
    """
    if scope not in TokenScope.values:
        raise TokenRefused(_("Choose one of: %(scopes)s.") % {"scopes": ", ".join(TokenScope.values)}, "scope")
    if role_in(creator, project.pk) not in COMMANDING_ROLES:
        raise TokenRefused(operators_only(), "user")
    if run is not None and run.project_id != project.pk:
        raise TokenRefused(_("This run belongs to another project: give the number of a run of this project."), "run")
    if scope == TokenScope.SHARE and run is None:
        raise TokenRefused(_("A share link shows one run: give the number of that run."), "run")
    if scope == TokenScope.TRAIN and run is not None:
        raise TokenRefused(_("A token for training hosts is valid for the whole project: leave the run empty."), "run")
    if expires_at is not None and expires_at <= timezone.now():
        raise TokenRefused(_("Choose a time in the future, or none."), "expires_at")
    if not name.strip():
        raise TokenRefused(_("Give the token a name by which you can recognise it later."), "name")
    value = MARK + secrets.token_urlsafe(SECRET_BYTES)
    row = AccessToken.objects.create(
        name=name.strip()[:100],
        prefix=value[:PREFIX_CHARACTERS],
        digest=digest(value),
        scope=scope,
        project=project,
        run=run,
        created_by=creator,
        expires_at=expires_at,
    )
    return row, value


def revoke(token: AccessToken) -> None:
    """Revoke a token and close the sockets that it opened. Has no effect on a revoked token."""
    if token.revoked_at is None:
        token.revoked_at = timezone.now()
        # Saved instead of updated, because the signal of the save makes the portals check their sockets.
        token.save(update_fields=["revoked_at"])


def may_revoke(user: User, role: str | None, token: AccessToken) -> bool:
    """Return whether `user`, whose role in the token's project is `role`, may revoke it."""
    return role == Role.OWNER or (role is not None and token.created_by_id == user.pk)


def valid() -> Q:
    """Return the condition on tokens that are neither revoked nor expired and whose creator is active."""
    unexpired = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    return unexpired & Q(revoked_at=None, created_by__is_active=True)


def find_token(value: str, scopes: Collection[str] = BEARER_SCOPES) -> AccessToken | None:
    """Return the valid token of `value`, with project and creator, and record its use.

    None if it is unknown, expired, revoked, of another scope, or if its creator is no longer an active member.
    """
    if not value.startswith(MARK):
        return None
    found = AccessToken.objects.select_related("created_by", "project", "run")
    token = found.filter(valid(), digest=digest(value), scope__in=scopes).first()
    if token is None or role_in(token.created_by, token.project_id) is None:
        return None
    _note_use(token)
    return token


def is_share_link(value: str) -> bool:
    """Return whether `value` is, or was, the key of a share link: guests get other messages than scripts."""
    return AccessToken.objects.filter(digest=digest(value), scope=TokenScope.SHARE).exists()


def is_known(value: str) -> bool:
    """Return whether `value` is, or was, a token: an expired token is not a guess."""
    return AccessToken.objects.filter(digest=digest(value)).exists()


def digest(value: str) -> str:
    """Return the stored form of a secret: it has 256 random bits, so a plain hash needs no salt."""
    return hashlib.sha256(value.encode()).hexdigest()


def _note_use(token: AccessToken) -> None:
    """Store the last use at most once a minute, so that a busy script does not cost a write per request.

    Skipped if the database takes no writes: reading with the token still works.
    """
    try:
        _store_use(token, timezone.now())
    except DatabaseError as error:
        if connection.in_atomic_block:
            raise
        logger.debug("the use of a token could not be stored: %s", error)


def _store_use(token: AccessToken, now: datetime) -> None:
    if token.last_used_at is None:
        # If several requests arrive at once, only one counts as the first.
        with transaction.atomic():
            if AccessToken.objects.filter(pk=token.pk, last_used_at=None).update(last_used_at=now):
                token_first_used.send(sender=AccessToken, token=token)
        token.last_used_at = now
    elif now - token.last_used_at >= LAST_USED_EVERY:
        AccessToken.objects.filter(pk=token.pk).update(last_used_at=now)
        token.last_used_at = now
