"""Notifies every portal process at once that somebody's access has changed, so that open sockets are checked.

It is connected to the signals of models, so pages, admin and commands are all covered. The message carries no name: the
receivers query the database. A lost message costs half a second, because the processes also check regularly.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import models, transaction
from django.db.models.signals import post_delete, post_save

from runs.models import AccessToken, Membership
from runs.recording import announcer

GROUP = "access"
MESSAGE = "access.changed"


def announce() -> None:
    """Make every portal process check its sockets after the current transaction commits."""
    transaction.on_commit(lambda: announcer.send(GROUP, {"type": MESSAGE}), robust=True)


def connect() -> None:
    """Connect to the signals of changes that revoke permissions. A changed password is detected when the user is saved.

    A logout is detected when its session is deleted: the signal `user_logged_out` comes earlier.
    """
    kept: tuple[type[models.Model], ...] = (User, Membership, AccessToken)
    for model in kept:
        post_save.connect(_saved, sender=model, dispatch_uid=f"access-saved-{model.__name__}")
    lost: tuple[type[models.Model], ...] = (*kept, Session)
    for model in lost:
        post_delete.connect(_deleted, sender=model, dispatch_uid=f"access-deleted-{model.__name__}")


def _saved(
    sender: type[models.Model], created: bool, raw: bool, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    """Announce changed rows. New rows only add permissions, and a login only changes its own date."""
    if not created and not raw and update_fields != frozenset({"last_login"}):
        announce()


def _deleted(sender: type[models.Model], **kwargs: Any) -> None:
    announce()
