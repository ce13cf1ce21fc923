"""Confirms that the owner of an account changes its login, and not a person who found the page open."""

from __future__ import annotations

import time

from allauth.account.authentication import get_authentication_records
from allauth.account.internal.flows.reauthentication import (
    get_reauthentication_flows,
    raise_if_reauthentication_required,
)
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest

# The same period as for a password or code that was entered as confirmation.
LOGIN_HOLDS_S = 300.0


def confirm_first(request: HttpRequest) -> None:
    """Raise `ReauthenticationRequired`, which redirects to the confirmation page, and then back to this request."""
    raise_if_reauthentication_required(request, app="runs.sign_in")


def can_confirm(user: User | AnonymousUser) -> bool:
    """Return whether the person has a password or a second factor here. Others log in again through their provider."""
    return bool(get_reauthentication_flows(user))


def logged_in_just_now(request: HttpRequest) -> bool:
    """Return whether the login of this session is recent enough to count as a confirmation."""
    user = request.user
    if not isinstance(user, User):
        return False
    moments = [float(each["at"]) for each in get_authentication_records(request, user)]
    return bool(moments) and time.time() - max(moments) < LOGIN_HOLDS_S
