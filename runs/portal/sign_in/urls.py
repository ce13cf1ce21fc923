"""URLs of the second factor: django-allauth's views with our templates. Without the setting they answer 404.

People confirm their identity here for single sign-on too.
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

from runs.portal.sign_in import passkeys

View = Callable[..., Any]


def where(is_offered: Callable[[], object]) -> Callable[[View], View]:
    """Return a decorator that answers 404 unless the current settings offer the page."""

    def guarded(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not is_offered():
                raise Http404
            response: HttpResponse = view(request, *args, **kwargs)
            return response

        return checked

    return guarded


offered = where(lambda: settings.STEERSMAN_SECOND_FACTOR)
offered_with_sign_on = where(lambda: settings.STEERSMAN_SECOND_FACTOR or settings.STEERSMAN_OIDC)
with_apps = where(lambda: "totp" in settings.STEERSMAN_SECOND_FACTOR)
with_passkeys = where(lambda: "webauthn" in settings.STEERSMAN_SECOND_FACTOR)
with_passkey_login = where(lambda: settings.STEERSMAN_PASSKEY_LOGIN)


@login_required
@require_safe
def log_in_again(request: HttpRequest) -> HttpResponse:
    """Explain to a visitor with neither password nor second factor here how to confirm their identity."""
    return render(request, "sign_in/log_in_again.html")


# django-allauth requires these names.
urlpatterns: list[URLPattern] = [
    path("", offered(factor.index), name="mfa_index"),
    path("code/", offered(passkeys.Factor.as_view()), name="mfa_authenticate"),
    path("confirm/", offered_with_sign_on(confirm_by_password), name="account_reauthenticate"),
    path("confirm/again/", offered_with_sign_on(log_in_again), name="log_in_again"),
    path("confirm/code/", offered(factor.reauthenticate), name="mfa_reauthenticate"),
    path("app/", with_apps(app.activate_totp), name="mfa_activate_totp"),
    path("app/remove/", with_apps(app.deactivate_totp), name="mfa_deactivate_totp"),
    path("passkey/", with_passkeys(passkeys.AddPasskey.as_view()), name="mfa_add_webauthn"),
    path("passkey/<int:pk>/remove/", with_passkeys(passkeys.RemovePasskey.as_view()), name="mfa_remove_webauthn"),
    path("passkey/log-in/", with_passkey_login(passkeys.LogInByPasskey.as_view()), name="mfa_login_webauthn"),
    path("confirm/passkey/", with_passkeys(passkeys.ConfirmByPasskey.as_view()), name="mfa_reauthenticate_webauthn"),
    path("recovery/", offered(recovery.view_recovery_codes), name="mfa_view_recovery_codes"),
    path("recovery/new/", offered(recovery.generate_recovery_codes), name="mfa_generate_recovery_codes"),
    path("recovery/codes.txt", offered(recovery.download_recovery_codes), name="mfa_download_recovery_codes"),
    path("log-in/", RedirectView.as_view(pattern_name="login", query_string=True), name="account_login"),
]
