"""Who may see and command a run, and the tickets that open its socket."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, User
from django.utils import timezone

from runs.commands import COMMANDS
from runs.models import Membership, Role, Run, Ticket

TICKET_LIFETIME = timedelta(seconds=30)
COMMANDING_ROLES = frozenset({Role.OPERATOR, Role.OWNER})


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who watches a run: who, with which role, and what they may ask of it."""

    user_id: int
    name: str
    role: str

    @property
    def may(self) -> list[str]:
        return sorted(COMMANDS) if self.role in COMMANDING_ROLES else []

    @property
    def may_command(self) -> bool:
        return self.role in COMMANDING_ROLES


def display_name(user: AbstractBaseUser) -> str:
    """Return what other members see: the full name, or the user name where there is none."""
    full_name = user.get_full_name() if isinstance(user, User) else ""
    return full_name or user.get_username()


def role_of(user: AbstractBaseUser | AnonymousUser, run: Run) -> str | None:
    """Return the user's role in the run's project, None where they are no active member."""
    if not user.is_authenticated or not user.is_active:
        return None
    return Membership.objects.filter(project_id=run.project_id, user_id=user.pk).values_list("role", flat=True).first()


def viewer_of(user: AbstractBaseUser | AnonymousUser, run: Run) -> Viewer | None:
    """Return the viewer that `user` is for `run`, None where they may not see it."""
    role = role_of(user, run)
    if role is None or isinstance(user, AnonymousUser):
        return None
    return Viewer(user_id=user.pk, name=display_name(user), role=role)


def issue_ticket(user: AbstractBaseUser, run: Run) -> str:
    """Return a new single-use ticket for `run`'s socket; only its hash is stored. Expired ones are removed."""
    now = timezone.now()
    Ticket.objects.filter(expires_at__lt=now - TICKET_LIFETIME).delete()
    value = secrets.token_urlsafe(32)
    Ticket.objects.create(digest=_digest(value), user_id=user.pk, run=run, expires_at=now + TICKET_LIFETIME)
    return value


def redeem_ticket(value: str, run_id: int) -> User | None:
    """Return the user of a ticket for `run_id` and use it up.

    None where it is unknown, used, expired or for another run.
    """
    now = timezone.now()
    unused = Ticket.objects.filter(digest=_digest(value), run_id=run_id, used_at=None, expires_at__gt=now)
    if unused.update(used_at=now) != 1:
        return None
    return Ticket.objects.select_related("user").get(digest=_digest(value)).user


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
