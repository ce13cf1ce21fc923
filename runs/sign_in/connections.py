"""The single sign-on logins of an account, and when one may be removed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.signals import social_account_removed
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest

from runs.sign_in.directory_marks import DIRECTORY, is_in_directory


class LastWayIn(Exception):
    """Without this login, no way of logging in to the account would be left."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A login at the provider. `known_as` is the provider's latest name for the person."""

    pk: int
    known_as: str
    since: datetime


def connections_of(user: User) -> list[Connection]:
    """Return the logins connected to the account, the oldest first."""
    held = SocialAccount.objects.filter(user=user).exclude(provider=DIRECTORY).order_by("pk")
    return [Connection(each.pk, _known_as(each), each.date_joined) for each in held]


def has_another_way(user: User) -> bool:
    """Return whether the person can log in without the provider: with a password here or in a directory."""
    return user.has_usable_password() or is_in_directory(user)


def disconnect(request: HttpRequest, user: User, pk: int) -> bool:
    """Disconnect a login from the account; return whether there was one. Raises `LastWayIn`.

    The caller must have confirmed the identity of the person: see `runs.sign_in.confirmation`.
    """
    with transaction.atomic():
        # Two concurrent requests must not remove the last two logins.
        person = User.objects.select_for_update().get(pk=user.pk)
        found = SocialAccount.objects.filter(user=person, pk=pk).exclude(provider=DIRECTORY).first()
        if found is None:
            return False
        if not has_another_way(person) and len(connections_of(person)) == 1:
            raise LastWayIn
        found.delete()
        social_account_removed.send(sender=SocialAccount, request=request, socialaccount=found)
    return True


def _known_as(account: SocialAccount) -> str:
    parts = (account.extra_data.get("userinfo"), account.extra_data.get("id_token"))
    for claim in ("preferred_username", "email", "name"):
        for part in parts:
            if isinstance(part, dict) and isinstance(part.get(claim), str) and part[claim]:
                return str(part[claim])
    return str(account.uid)
