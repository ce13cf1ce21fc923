"""Wrong passwords: how many are checked, and how many at the same time.

django-axes counts them by account and by address, in the database, so that all web processes share the counts. A right
password does not reset a count: a person with an account could otherwise go on guessing the password of another
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

# A lab may share one address: it is locked after so many times the failures that lock an account.
ADDRESS_FACTOR = 5


class LoginLimits(AxesDatabaseHandler):
    """Locks an account after fewer failures than an address."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """Return the failures of the account, or the fifth of those of the address where that is more."""
        of_account, of_address = (
            attempts.aggregate(failures=Sum("failures_since_start"))["failures"] or 0
            for attempts in self.get_user_attempts(request, credentials)
        )
        return int(max(of_account, of_address // ADDRESS_FACTOR))


def is_locked(request: HttpRequest) -> bool:
    """Return whether the account that the form of a login names, or the address that it comes from, is locked."""
    if UNSTORABLE.search(request.POST.get("username", "")):
        # The form refuses such a name before a password is looked at; PostgreSQL cannot even look for it.
        return False
    return not AxesProxyHandler.is_allowed(request)


def is_counted(request: HttpRequest) -> bool:
    """Return whether the failure of this request was counted: it is not while account or address are locked already.

    Call after django-axes has heard of the failure.
    """
    is_locked_out = getattr(request, "axes_locked_out", False)
    return not is_locked_out or getattr(request, "axes_failures_since_start", None) is not None


class PasswordBackend(ModelBackend):
    """Django's own, with one password looked at at a time: hashing takes a core for as long as it lasts.

    A request waits in a thread of its own, and pages go on in theirs.
    """

    _turn = threading.Lock()

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        with self._turn:
            if request is not None:
                # Requests that came at the same time have passed the lock already: they were counted meanwhile.
                AxesStandaloneBackend().authenticate(request, username, password)
            return super().authenticate(request, username, password, **kwargs)


class CountedPasswordChangeForm(PasswordChangeForm):
    """Django's own, whose present password is looked at and counted as one at the login is."""

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request = request

    def clean_old_password(self) -> str:
        """Return the present password. Raises `ValidationError` if it is another, or the account is locked."""
        old: str = self.cleaned_data["old_password"]
        found = authenticate(self._request, username=self.user.get_username(), password=old)
        # In a directory the name may belong to another person.
        if found is None or found.pk != self.user.pk:
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return old
