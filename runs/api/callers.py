"""Who calls the API: a token in the Authorization header, or the session of a browser with its CSRF token."""

from __future__ import annotations

from typing import cast

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja.security import APIKeyCookie, HttpBearer
from ninja.utils import check_csrf

from runs.access.roles import Caller
from runs.access.tokens import find_token
from runs.api.errors import ApiError, no_such_run
from runs.models import Run


class BearerToken(HttpBearer):
    """`Authorization: Bearer stm_…`. A wrong token is refused, even where a session would do."""

    def authenticate(self, request: HttpRequest, token: str) -> Caller:
        found = find_token(token.strip())
        if found is None:
            raise ApiError(401, _("This token is unknown, expired or revoked: make a new one."), "Authorization")
        return Caller(found.created_by, found)


class BrowserSession(APIKeyCookie):
    """The session cookie of a page; what changes something needs the CSRF token too."""

    param_name = settings.SESSION_COOKIE_NAME

    def __init__(self) -> None:
        # Checked below: asked before the login, it would hide from a page that its session has ended.
        super().__init__(csrf=False)

    def authenticate(self, request: HttpRequest, key: str | None) -> Caller | None:
        if not isinstance(request.user, User) or not request.user.is_active:
            return None
        if check_csrf(request) is not None:
            raise ApiError(403, _("The CSRF token is missing or stale: load the page again."), "X-CSRFToken")
        return Caller(request.user)


def caller_of(request: HttpRequest) -> Caller:
    return cast(Caller, request.auth)  # type: ignore[attr-defined]


def visible_run(request: HttpRequest, pk: int) -> Run:
    """Return a run that the caller may see, with project, recipe and creator; 404 otherwise."""
    run = caller_of(request).runs().select_related("project", "recipe", "created_by").filter(pk=pk).first()
    if run is None:
        raise no_such_run()
    return run
