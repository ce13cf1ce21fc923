"""Wrong passwords: how many are looked at, and how many at once.

django-axes counts them by account and by address, in the database, so that all web processes know. A right password
does not take a count back: whoever has an account of their own could go on guessing that of another.
"""

from __future__ import annotations

import threading
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.db.models import Sum
from django.http import HttpRequest

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


class PasswordBackend(ModelBackend):
    """Django's own, with one password looked at at a time: hashing takes a core for as long as it lasts.

    A request waits in a thread of its own, and pages go on in theirs.
    """

    _turn = threading.Lock()

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        with self._turn:
            return super().authenticate(request, username, password, **kwargs)
