"""The second factor: logins that need it, codes that count like passwords, and its removal from an account."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import perform_login
from allauth.core import context
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from axes.handlers.proxy import AxesProxyHandler
from cryptography.fernet import InvalidToken
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse

# A code of an app is valid in its own 30 s, and in the 30 s before and after.
CODE_HOLDS_S = 90


def log_in(request: HttpRequest, user: User, to: str) -> HttpResponse:
    """Log in `user`, whose password was correct, and redirect to `to`, after the code if they have a second factor."""
    response: HttpResponse = perform_login(request, user, redirect_url=to)
    return response


def note_password(request: HttpRequest, user: User) -> None:
    """Record in the session that the password of `user` was correct, which is not yet a login."""
    record_authentication(request, user, "password")


def take_away(user: User) -> int:
    """Remove every second factor and recovery code of `user`; return how many there were."""
    return int(Authenticator.objects.filter(user=user).delete()[0])


class CountedCode:
    """Verifies codes for the forms below. A wrong code counts like a wrong password; a correct one is valid once."""

    user: User

    def clean_code(self) -> str:
        request = context.request
        credentials = {"username": self.user.get_username()}
        if not AxesProxyHandler.is_allowed(request, credentials):
            request.axes_locked_out = True
            raise get_adapter().validation_error("incorrect_code")
        try:
            code: str = super().clean_code()  # type: ignore[misc]
            found: Authenticator = self.authenticator  # type: ignore[attr-defined]
            is_right = found.type == Authenticator.Type.RECOVERY_CODES or (
                found.type in settings.STEERSMAN_SECOND_FACTOR and _spend(found, code)
            )
        except InvalidToken:
            # The secret key was changed, so the app's codes and the recovery codes cannot be decrypted.
            is_right = False
        except ValidationError:
            is_right = False
        if not is_right:
            user_login_failed.send(sender=__name__, credentials=credentials, request=request)
            raise get_adapter().validation_error("incorrect_code")
        return code


class CountedCodeForm(CountedCode, AuthenticateForm):
    """The code of a login."""


class CountedConfirmationForm(CountedCode, ReauthenticateForm):
    """The code that confirms the person's identity before a factor is changed."""


def _spend(authenticator: Authenticator, code: str) -> bool:
    """Use up a code of an app, for all web processes; return False if it was used before."""
    now = int(time.time())
    digest = hashlib.sha256(f"{settings.SECRET_KEY}{code.strip()}".encode()).hexdigest()
    with transaction.atomic():
        kept = Authenticator.objects.select_for_update().get(pk=authenticator.pk)
        used: dict[str, Any] = {key: at for key, at in kept.data.get("used", {}).items() if at > now - CODE_HOLDS_S}
        if digest in used:
            return False
        kept.data["used"] = used | {digest: now}
        kept.save(update_fields=["data"])
    authenticator.data = kept.data
    return True
