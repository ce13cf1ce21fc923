"""The caller of the API: a token in the Authorization header, or the session of a browser with its CSRF token.

The token of a share link is sent in that header too, and never in an address, because addresses are logged. It gives
access to the data of its run's page (`READERS`), and to nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, cast

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja.security import APIKeyCookie, HttpBearer
from ninja.utils import check_csrf

from runs.access.addresses import address_of
from runs.access.guesses import TooManyGuesses, lookups
from runs.access.roles import Caller, Viewer, operators_only
from runs.access.tokens import BEARER_SCOPES, is_share_link
from runs.api.errors import ApiError, no_such_run
from runs.models import Run, TokenScope


class BearerToken(HttpBearer):
    """`Authorization: Bearer stm_…`. A wrong token is refused, even if the session would be valid."""

    scopes: ClassVar[Collection[str]] = BEARER_SCOPES

    def authenticate(self, request: HttpRequest, token: str) -> Caller:
        value = token.strip()
        try:
            found = lookups.find(value, TokenScope.values, address_of(request) or "")
        except TooManyGuesses as error:
            text = _(
                "Too many requests with unknown tokens came from your address: correct your token, and try again in a "
                "minute."
            )
            raise ApiError(429, text, "Authorization") from error
        if found is None and is_share_link(value):
            raise ApiError(401, _("This link has expired or was revoked: ask for a new one."), "Authorization")
        if found is None:
            raise ApiError(401, _("This token is unknown, expired or revoked: make a new one."), "Authorization")
        if found.scope == TokenScope.METRICS:
            text = _("A token for metrics only opens /metrics: create a token for scripts.")
            raise ApiError(403, text, "Authorization")
        if found.scope == TokenScope.TRAIN and found.scope not in self.scopes:
            text = _("A token for training hosts only opens runs: create a token for scripts.")
            raise ApiError(403, text, "Authorization")
        if found.scope not in self.scopes:
            raise ApiError(403, self.other_scope(), "Authorization")
        return Caller(found.created_by, found)

    def other_scope(self) -> str:
        """Return the error for a token of another scope."""
        return _("A share link only opens the page of its run: create a token for scripts.")


class TrainToken(BearerToken):
    """A token with the scope `train`, which training hosts have."""

    scopes = frozenset({TokenScope.TRAIN})

    def other_scope(self) -> str:
        return train_token_only()


def train_token_only() -> str:
    return _("Only a token with the scope train opens runs: create one on the project's page of tokens.")


class BearerOrShareToken(BearerToken):
    """The same, or the token of a share link, which is part of the address of its page."""

    scopes = frozenset({*BEARER_SCOPES, TokenScope.SHARE})


class BrowserSession(APIKeyCookie):
    """The session cookie of a page; requests that change something need the CSRF token too."""

    param_name = settings.SESSION_COOKIE_NAME

    def __init__(self) -> None:
        # Checked below: checked before the login, an invalid CSRF token would hide that the session has ended.
        super().__init__(csrf=False)

    def authenticate(self, request: HttpRequest, key: str | None) -> Caller | None:
        if not isinstance(request.user, User) or not request.user.is_active:
            return None
        if check_csrf(request) is not None:
            raise ApiError(403, _("The CSRF token is missing or has expired. Reload the page."), "X-CSRFToken")
        return Caller(request.user)


# For the address that training hosts call; a person who calls it gets an error that says so.
TRAINERS = (TrainToken(), BrowserSession())
# Of addresses that the page of a shared run asks.
READERS = (BearerOrShareToken(), BrowserSession())


def caller_of(request: HttpRequest) -> Caller:
    return cast(Caller, request.auth)  # type: ignore[attr-defined]


def visible_run(request: HttpRequest, pk: int) -> Run:
    """Return a run that the caller may see, with project, recipe and creator; 404 otherwise."""
    run = caller_of(request).runs().select_related("project", "recipe", "created_by").filter(pk=pk).first()
    if run is None:
        raise no_such_run()
    return run


def visible_run_and_viewer(request: HttpRequest, pk: int) -> tuple[Run, Viewer]:
    """Return a run that the caller may see, and its viewer; 404 otherwise."""
    run = visible_run(request, pk)
    viewer = caller_of(request).viewer(run)
    if viewer is None:
        raise no_such_run()
    return run, viewer


def commanded_run(request: HttpRequest, pk: int) -> Run:
    """Return a run that the caller may steer. Raises 404 if they may not see it, 403 if they may only see it."""
    return commanded_run_and_viewer(request, pk)[0]


def commanded_run_and_viewer(request: HttpRequest, pk: int) -> tuple[Run, Viewer]:
    """Return a run that the caller may steer, and its viewer. Raises the errors of `commanded_run`."""
    run, viewer = visible_run_and_viewer(request, pk)
    if not viewer.may_command:
        raise ApiError(403, operators_only())
    return run, viewer
