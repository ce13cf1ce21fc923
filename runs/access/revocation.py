"""Tells every portal process at once that somebody's access changed, so that open sockets are looked at.

Hung on the models, so that pages, admin and commands all count. The message names nobody: whoever hears it asks the
database. A message that gets lost costs half a second, for the processes look by themselves too.
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
    """Let every portal process look at its sockets, once the present transaction is committed."""
    transaction.on_commit(lambda: announcer.send(GROUP, {"type": MESSAGE}), robust=True)


def connect() -> None:
    """Listen to what takes rights away. Django has no signal for a changed password: the saved user tells.

    A logout is heard as the end of its session: `user_logged_out` comes before that.
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
    """What is new gives rights; a login changes no more than its date."""
    if not created and not raw and update_fields != frozenset({"last_login"}):
        announce()


def _deleted(sender: type[models.Model], **kwargs: Any) -> None:
    announce()
