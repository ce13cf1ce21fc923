"""Adapters for django-allauth, which adds steps to the login, but no sign-up and no mail."""

from __future__ import annotations

import logging
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from allauth.socialaccount.providers.base.constants import AuthProcess
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from runs.access.addresses import address_of
from runs.access.sealing import fernet
from runs.sign_in.confirmation import can_confirm, logged_in_just_now
from runs.sign_in.passkeys import default_name, handle_of, relying_party
from runs.sign_in.sessions import NO_ADDRESS

logger = logging.getLogger(__name__)

SECRETS_OF_APPS = "second-factor"


class AccountAdapter(DefaultAccountAdapter):
    """There is no sign-up form, because invites create accounts. The pages have their own messages."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_login_stages(self) -> list[str]:
        return ["allauth.mfa.stages.AuthenticateStage"] if settings.STEERSMAN_SECOND_FACTOR else []

    def get_client_ip(self, request: HttpRequest) -> str:
        return address_of(request) or NO_ADDRESS

    def respond_user_inactive(self, request: HttpRequest, user: User) -> HttpResponse:
        return redirect("login")

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Return whether a change of the login needs a confirmation. People without a password or code log in again."""
        request = context.request
        return can_confirm(request.user) or not logged_in_just_now(request)

    def get_reauthentication_methods(self, user: User | AnonymousUser) -> list[dict[str, Any]]:
        """Return how a person can confirm their identity; there is always one way."""
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        return methods or [{"id": "log_in_again", "description": "", "url": reverse("log_in_again")}]

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """Show no message."""


class SignOnAdapter(DefaultSocialAccountAdapter):
    """Creates an account at the first login with the provider; groups or invites give access to projects."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return True

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Match no account by mail address: a person who can choose one at the provider could take over an account.

        Raises `ImmediateHttpResponse` if a person wants to connect a login that belongs to another account.
        """
        sociallogin.email_addresses = []
        is_connecting = sociallogin.state.get("process") == AuthProcess.CONNECT
        if is_connecting and sociallogin.is_existing and sociallogin.user != request.user:
            raise ImmediateHttpResponse(redirect(f"{reverse('socialaccount_connections')}?refused=taken"))

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: Any = None, exception: Any = None, extra_context: Any = None
    ) -> None:
        # Only the name, because the provider's answer may contain a key.
        reason = type(exception).__name__ if exception else request.GET.get("error", "")[:100]
        logger.warning("single sign-on failed: %s, %r", error, reason)


class SecondFactorAdapter(DefaultMFAAdapter):
    """Encrypts stored secrets, and requires no code if the setting is off."""

    def is_mfa_enabled(self, user: User | AnonymousUser, types: Any = None) -> bool:
        """Return whether the person has a factor of these kinds. Kinds that are off do not count."""
        factors = set(settings.STEERSMAN_SECOND_FACTOR)
        offered = factors | {Authenticator.Type.RECOVERY_CODES} if factors else set()
        asked = factors if types is None else set(types) & offered
        return bool(asked) and bool(super().is_mfa_enabled(user, list(asked)))

    def generate_authenticator_name(self, user: User, type: Any) -> str:
        return default_name(context.request)

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        host = relying_party(context.request)
        return {"id": host, "name": f"Steersman ({host}{settings.STEERSMAN_PREFIX})"}

    def get_public_key_credential_user_entity(self, user: User) -> dict[str, Any]:
        name = user.get_username()
        return {"id": handle_of(user), "display_name": user.get_full_name() or name, "name": name}

    def get_totp_label(self, user: User) -> str:
        return user.get_username()

    def encrypt(self, text: str) -> str:
        return fernet(SECRETS_OF_APPS).encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Return the decrypted text. Raises `InvalidToken` after the secret key was changed without a fallback."""
        return fernet(SECRETS_OF_APPS).decrypt(encrypted_text.encode()).decode()
