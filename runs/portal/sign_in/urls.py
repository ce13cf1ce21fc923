"""Addresses of the second factor: django-allauth's pages, in our templates. Where the setting is off there are none.

Who they are people confirm here for single sign-on too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.views import reauthenticate as confirm_by_password
from allauth.mfa.base import views as factor
from allauth.mfa.recovery_codes import views as recovery
from allauth.mfa.totp import views as app
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path
from django.views.decorators.http import require_safe
from django.views.generic import RedirectView

View = Callable[..., Any]


def offered(view: View) -> View:
    """Return the view, behind a page that is not found where the second factor is off."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not settings.STEERSMAN_SECOND_FACTOR:
            raise Http404
        response: HttpResponse = view(request, *args, **kwargs)
        return response

    return checked


def offered_with_sign_on(view: View) -> View:
    """Return the view, behind a page that is not found where neither second factor nor single sign-on is on."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not settings.STEERSMAN_SECOND_FACTOR and settings.STEERSMAN_OIDC is None:
            raise Http404
        response: HttpResponse = view(request, *args, **kwargs)
        return response

    return checked


@login_required
@require_safe
def log_in_again(request: HttpRequest) -> HttpResponse:
    """Tell the visitor, who has neither password nor second factor here, how to confirm who they are."""
    return render(request, "sign_in/log_in_again.html")


# The names are those that django-allauth asks for.
urlpatterns: list[URLPattern] = [
    path("", offered(factor.index), name="mfa_index"),
    path("code/", offered(factor.authenticate), name="mfa_authenticate"),
    path("confirm/", offered_with_sign_on(confirm_by_password), name="account_reauthenticate"),
    path("confirm/again/", offered_with_sign_on(log_in_again), name="log_in_again"),
    path("confirm/code/", offered(factor.reauthenticate), name="mfa_reauthenticate"),
    path("app/", offered(app.activate_totp), name="mfa_activate_totp"),
    path("app/remove/", offered(app.deactivate_totp), name="mfa_deactivate_totp"),
    path("recovery/", offered(recovery.view_recovery_codes), name="mfa_view_recovery_codes"),
    path("recovery/new/", offered(recovery.generate_recovery_codes), name="mfa_generate_recovery_codes"),
    path("recovery/codes.txt", offered(recovery.download_recovery_codes), name="mfa_download_recovery_codes"),
    path("log-in/", RedirectView.as_view(pattern_name="login", query_string=True), name="account_login"),
]
