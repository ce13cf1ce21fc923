"""Limits how many passwords are checked per account and address, and how many at the same time.

django-axes counts them by account and by address, in the database, so that all web processes share the counts. A right
password does not reset a count: a person with an account could otherwise continue to guess the password of another
account.
"""

from __future__ import annotations

import threading
from typing import Any

from axes.backends import AxesStandaloneBackend
from axes.handlers.database import AxesDatabaseHandler
from axes.handlers.proxy import AxesProxyHandler
from django.contrib.auth import authenticate
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Sum
from django.http import HttpRequest

from runs.protocol.storable_text import UNSTORABLE

# A lab may share one address, so an address is locked after this many times the failures that lock an account.
ADDRESS_FACTOR = 5


class LoginLimits(AxesDatabaseHandler):
    """Locks an account after fewer failures than an address."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """Return the failures of the account, or a fifth of those of the address if that is more."""
        of_account, of_address = (
            attempts.aggregate(failures=Sum("failures_since_start"))["failures"] or 0
            for attempts in self.get_user_attempts(request, credentials)
        )
        return int(max(of_account, of_address // ADDRESS_FACTOR))


def is_locked(request: HttpRequest) -> bool:
    """Return whether the account named in a login form, or the address of the request, is locked."""
    if UNSTORABLE.search(request.POST.get("username", "")):
        # The form refuses such a name before it checks the password, and PostgreSQL cannot query it.
        return False
    return not AxesProxyHandler.is_allowed(request)


def is_counted(request: HttpRequest) -> bool:
    """Return whether the failure of this request was counted. While account or address are locked, failures are not
    counted.

    Call after django-axes has received the failure.
    """
    is_locked_out = getattr(request, "axes_locked_out", False)
    return not is_locked_out or getattr(request, "axes_failures_since_start", None) is not None


class PasswordBackend(ModelBackend):
    """Django's backend, which checks one password at a time because hashing keeps a core busy.

    Requests wait in their own threads, so other pages are not delayed.
    """

    _turn = threading.Lock()

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        with self._turn:
            if request is not None:
                # Concurrent requests passed the first check of the lock, and their failures may have locked it
                # meanwhile.
                AxesStandaloneBackend().authenticate(request, username, password)
            return super().authenticate(request, username, password, **kwargs)


class CountedPasswordChangeForm(PasswordChangeForm):
    """Django's form, which checks and counts the current password as a login does."""

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request = request

    def clean_old_password(self) -> str:
        """Return the current password. Raises `ValidationError` if it is wrong, or the account is locked."""
        old: str = self.cleaned_data["old_password"]
        found = authenticate(self._request, username=self.user.get_username(), password=old)
        # The directory may have given this name to another person.
        if found is None or found.pk != self.user.pk:
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return old
