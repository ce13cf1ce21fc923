"""Browsers in which a person logged in before, so that guesses of others do not lock that person out.

A login sets a signed cookie with the account and a random device. Wrong passwords for that account from that device are
counted separately, all others for the account together. See *Slow Down Online Guessing Attacks with Device Cookies*,
OWASP, https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from axes.helpers import get_client_username
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.core import signing
from django.db.models import Sum
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from runs.access.logins import LoginLimits

COOKIE = "steersman_device"
SALT = "steersman.known-device"
LASTS_S = 180 * 86_400
# People may share a computer in a lab; a cookie holds 4 KiB.
MOST_ACCOUNTS = 5
# The user who logged in with this request. Clients cannot set it, because headers begin with HTTP_.
LOGGED_IN = "steersman.logged_in"
# Of a user agent in the list of wrong passwords, whose column has 255 characters.
LONGEST_USER_AGENT = 200


class DeviceLimits(LoginLimits):
    """Counts wrong passwords from a known device separately.

    For other devices, all wrong passwords of the account count, including those of known devices, so sending the user
    agent of a known device gains nothing.
    """

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """Return the failures of a device that the account has used before, else those that `LoginLimits` counts."""
        mark = _mark_of(request, credentials)
        if not mark:
            return super().get_failures(request, credentials)
        of_account = self.get_user_attempts(request, credentials)[0].filter(user_agent__endswith=mark)
        return int(of_account.aggregate(failures=Sum("failures_since_start"))["failures"] or 0)

    def user_login_failed(
        self, sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
    ) -> None:
        """Count a wrong password, with the mark of a known device."""
        mark = _mark_of(request, credentials) if request is not None else ""
        agent = getattr(request, "axes_user_agent", "")
        if mark and not agent.endswith(mark):
            request.axes_user_agent = agent[:LONGEST_USER_AGENT] + mark  # type: ignore[union-attr]
        super().user_login_failed(sender, credentials, request, **kwargs)


def connect() -> None:
    """Set the cookie at each login."""
    user_logged_in.connect(_logged_in, dispatch_uid="device-of-a-login")


@sync_and_async_middleware
def remembers_devices(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: the response to a login sets the cookie by which the device becomes known to the account."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            return _with_cookie(request, await get_response(request))

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        return _with_cookie(request, get_response(request))

    return answer


def _logged_in(sender: Any, request: HttpRequest | None, user: User, **kwargs: Any) -> None:
    if request is not None:
        request.META[LOGGED_IN] = user.get_username()


def _with_cookie(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    name = request.META.get(LOGGED_IN, "")
    if name:
        others = [each for each in _known(request) if each[0] != name]
        known = [*others[-MOST_ACCOUNTS + 1 :], [name, secrets.token_urlsafe(16)]]
        response.set_cookie(
            COOKIE,
            signing.dumps(known, salt=SALT, compress=True),
            max_age=LASTS_S,
            path=settings.SESSION_COOKIE_PATH,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
    return response


def _known(request: HttpRequest) -> list[list[str]]:
    """Return the accounts to which the device is known, each with its random part; none if the cookie is not ours."""
    try:
        found: list[list[str]] = signing.loads(request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=LASTS_S)
    except signing.BadSignature:
        return []
    return found


def _mark_of(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """Return the key under which the device is counted for the account, "" if it is unknown to it.

    It is a digest, because readers of the list of wrong passwords must not see the random part.
    """
    name = get_client_username(request, credentials)
    part = next((part for account, part in _known(request) if account == name), "")
    return f" (known device {hashlib.sha256(part.encode()).hexdigest()[:16]})" if part else ""
