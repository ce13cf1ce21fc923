"""Marks of the directory in accounts and requests, without importing it: its packages may not be installed."""

from __future__ import annotations

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest

# django-allauth keeps in one table which account a login elsewhere leads to: in place of a provider's name.
DIRECTORY = "ldap"
# No client sets it: headers begin with HTTP_.
FAILED = "steersman.directory_failed"


def is_in_directory(user: User) -> bool:
    """Return whether a directory that is set up keeps the password of the account."""
    if settings.STEERSMAN_LDAP is None:
        return False
    return bool(SocialAccount.objects.filter(user=user, provider=DIRECTORY).exists())


def note_failure(request: HttpRequest | None) -> None:
    """Note that the directory gave no answer to the login of a request."""
    if request is not None:
        request.META[FAILED] = True


def has_failed(request: HttpRequest) -> bool:
    """Return whether the directory gave no answer to the login of this request."""
    return FAILED in request.META
