"""Pages on which a browser asks for a passkey: to add one, to log in, and to confirm one's identity."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from allauth.account.views._reauthenticate import BaseReauthenticateView
from allauth.mfa.base.views import AuthenticateView
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.internal import auth
from allauth.mfa.webauthn.views import (
    AddWebAuthnView,
    LoginWebAuthnView,
    ReauthenticateWebAuthnView,
    RemoveWebAuthnView,
)
from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse, reverse_lazy
from django.views.generic.edit import FormView

from runs.sign_in.passkeys import relying_party


class Factor(AuthenticateView):
    """The page of a login that asks for the second factor: a code, a passkey, or either."""

    def _build_forms(self) -> Any:
        if self.request.method == "POST" and "webauthn" not in settings.STEERSMAN_SECOND_FACTOR:
            # django-allauth treats a request without a code as a passkey.
            self.auth_form = self.get_form_class()(user=self.stage.login.user, data=self.request.POST)
            self.webauthn_form = None
            return self.auth_form
        return super()._build_forms()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        held = Authenticator.objects.filter(user=self.stage.login.user).values_list("type", flat=True)
        kinds = set(held) & set(settings.STEERSMAN_SECOND_FACTOR)
        context: dict[str, Any] = super().get_context_data(**kwargs)
        return context | {"kinds": kinds, "rp_id": relying_party(self.request)}


class AddPasskey(AddWebAuthnView):
    """Adds a passkey. One that replaces the password is stored in the authenticator, which asks for its PIN or a
    fingerprint.
    """

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = FormView.get_context_data(self, **kwargs)
        options = auth.begin_registration(self.request.user, settings.STEERSMAN_PASSKEY_LOGIN)
        return context | {"js_data": {"creation_options": options}, "rp_id": relying_party(self.request)}


class ConfirmByPasskey(ReauthenticateWebAuthnView):
    """Confirms the visitor's identity."""

    def form_invalid(self, form: Any) -> HttpResponse:
        response: HttpResponse = self.render_to_response(self.get_context_data(form=form))
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = BaseReauthenticateView.get_context_data(self, **kwargs)
        options = auth.begin_authentication(self.request.user)
        return context | {"js_data": {"request_options": options}, "rp_id": relying_party(self.request)}


class LogInByPasskey(LoginWebAuthnView):
    """GET returns the request for the authenticator, POST logs in with its signed answer."""

    def form_invalid(self, form: Any) -> HttpResponse:
        query = {"passkey": "refused", "next": self.request.POST.get("next", "")}
        return redirect(f"{reverse('login')}?{urlencode(query)}")


class RemovePasskey(RemoveWebAuthnView):
    """Removes a passkey after its owner's identity was confirmed."""

    success_url = reverse_lazy("mfa_index")
