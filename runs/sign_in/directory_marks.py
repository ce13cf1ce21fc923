"""Marks of the directory in accounts and requests, without importing it: its packages may not be installed."""

from __future__ import annotations

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest

# django-allauth stores in one table which account an external login belongs to: used instead of a provider's name.
DIRECTORY = "ldap"
# Clients cannot set it, because headers begin with HTTP_.
FAILED = "steersman.directory_failed"


def is_in_directory(user: User) -> bool:
    """Return whether the configured directory holds the password of the account."""
    if settings.STEERSMAN_LDAP is None:
        return False
    return bool(SocialAccount.objects.filter(user=user, provider=DIRECTORY).exists())


def note_failure(request: HttpRequest | None) -> None:
    """Record that the directory did not answer during the login of a request."""
    if request is not None:
        request.META[FAILED] = True


def has_failed(request: HttpRequest) -> bool:
    """Return whether the directory did not answer during the login of this request."""
    return FAILED in request.META
