"""The page *Single sign-on*: connects an account with a login at the provider, and disconnects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.providers.base import Provider
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.openid_connect import views
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe
from requests import RequestException

from runs.sign_in.confirmation import confirm_first
from runs.sign_in.connections import LastWayIn, connections_of, disconnect, has_another_way

if TYPE_CHECKING:
    from monitor_site.environment.sign_in import SingleSignOn

HERE = "socialaccount_connections"


@login_required
@require_safe
def connections(request: HttpRequest) -> HttpResponse:
    """Show the visitor the connected logins."""
    provider = _offered()
    assert isinstance(request.user, User)
    held = connections_of(request.user)
    facts = {
        "provider": provider,
        "connections": held,
        "may_disconnect": has_another_way(request.user) or len(held) > 1,
        "refused": request.GET.get("refused", ""),
    }
    return render(request, "sign_in/connections.html", facts)


@login_required
@require_POST
def connect(request: HttpRequest) -> HttpResponse:
    """Redirect the visitor to the provider, whose login is connected once they return.

    It is a POST, so that no other person can start it with their own login. The Content-Security-Policy forbids forms
    that lead to another host, so the answer is a page that redirects.
    """
    chosen = _offered()
    assert isinstance(request.user, User)
    if connections_of(request.user):
        return redirect(HERE)
    confirm_first(request)
    provider: Provider = get_adapter().get_provider(request, chosen.provider_id)
    try:
        leave: HttpResponse = provider.redirect(request, process=AuthProcess.CONNECT, next_url=reverse(HERE))
    except (RequestException, ValueError, KeyError) as error:
        return _no_answer(request, provider, error)
    if leave.status_code != 302:
        return leave
    address = leave.headers["Location"]
    response = render(request, "sign_in/leaving.html", {"provider": chosen, "address": address})
    response.headers["Refresh"] = f"0; url={address}"
    return response


@login_required
@require_POST
def disconnect_one(request: HttpRequest, pk: int) -> HttpResponse:
    """Disconnect one login from the visitor's account, unless it is the only one."""
    _offered()
    assert isinstance(request.user, User)
    confirm_first(request)
    try:
        if not disconnect(request, request.user, pk):
            raise Http404
    except LastWayIn:
        return redirect(f"{reverse(HERE)}?refused=last")
    return redirect(HERE)


def log_in(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Redirect a visitor to the provider to log in, for no other process: `connect` above has its own checks."""
    if "process" in request.GET or "process" in request.POST:
        raise Http404
    try:
        response: HttpResponse = views.login(request, provider_id)
    except (RequestException, ValueError, KeyError) as error:
        return _no_answer(request, get_adapter().get_provider(request, provider_id), error)
    return response


def _offered() -> SingleSignOn:
    """Return the provider. Raises `Http404` if there is none."""
    chosen = settings.STEERSMAN_OIDC
    if chosen is None:
        raise Http404
    return chosen


def _no_answer(request: HttpRequest, provider: Provider, error: Exception) -> HttpResponse:
    response: HttpResponse = render_authentication_error(request, provider, exception=error)
    return response
