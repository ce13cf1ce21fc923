"""Passkeys and security keys (WebAuthn): the address for which they are valid, and the data that browsers send.

What a browser sends is anybody's: it is looked at before django-allauth and fido2 are, and little of it is kept.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from allauth.account.utils import user_pk_to_url_str
from allauth.core import context
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.forms import (
    AddWebAuthnForm,
    AuthenticateWebAuthnForm,
    LoginWebAuthnForm,
    ReauthenticateWebAuthnForm,
)
from allauth.mfa.webauthn.internal import auth
from axes.handlers.proxy import AxesProxyHandler
from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.http.request import split_domain_port
from django.utils.crypto import salted_hmac
from django.utils.http import urlsafe_base64_encode
from fido2.utils import websafe_decode

from runs.access.addresses import address_of
from runs.sign_in.sessions import device_of

MOST_PASSKEYS = 20
LONGEST_NAME = 60
# Of each text of a new passkey, in characters; a key with its attestation takes some hundreds.
LONGEST_PART = 16_384
# What parsers raise at bytes that no authenticator makes, and keys of a kind that they do not know.
MALFORMED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RecursionError, TypeError,
    ValueError,
)  # fmt: skip


def relying_party(request: HttpRequest) -> str:
    """Return the name that passkeys hold for: that of STEERSMAN_PUBLIC_URL over https, else the one that was asked.

    Browsers refuse it on pages of another host.
    """
    public = urlsplit(str(settings.STEERSMAN_PUBLIC_URL))
    if public.scheme == "https" and public.hostname:
        return public.hostname
    host: str = split_domain_port(request.get_host())[0]
    return host


def handle_of(user: User) -> bytes:
    """Return what an authenticator keeps of the account beside a passkey.

    It replaces its passkey for the same host and handle: two portals on one host must not have equal ones.
    """
    return f"{_installation()}-{user.pk}".encode()


def user_of(handle: bytes) -> User | None:
    """Return whose handle it is, None if it is not one of `handle_of`."""
    _, _, number = handle.decode().rpartition("-")
    return User.objects.filter(pk=int(number)).first() if number.isascii() and number.isdigit() else None


def default_name(request: HttpRequest) -> str:
    """Return the name that a new passkey is given: that of the browser."""
    return device_of(request.META.get("HTTP_USER_AGENT", ""))[:LONGEST_NAME]


class PasskeyForm(AddWebAuthnForm):
    """Adds a passkey. With STEERSMAN_PASSKEY_LOGIN it logs in by itself, else beside a password."""

    name = forms.CharField(required=False, max_length=LONGEST_NAME)

    def clean(self) -> dict[str, Any]:
        """Return the name, and of the credential what logins need. Raises `ValidationError`."""
        given = self.cleaned_data
        if Authenticator.objects.filter(user=self.user, type=Authenticator.Type.WEBAUTHN).count() >= MOST_PASSKEYS:
            raise get_adapter().validation_error("incorrect_code")
        try:
            credential = given.get("credential")
            if credential:
                given["credential"] = credential = _kept(credential)
                _check_origin(auth.parse_registration_response(credential).response.client_data)
            given["passwordless"] = settings.STEERSMAN_PASSKEY_LOGIN
            cleaned: dict[str, Any] = super().clean()
        except MALFORMED:
            raise get_adapter().validation_error("incorrect_code") from None
        return cleaned


class CountedPasskey:
    """Looks at what an authenticator has signed, for the forms below. What does not hold counts as a wrong password.

    Nobody guesses a signature: the count keeps a stranger from asking for ever.
    """

    user: User | None

    def clean_credential(self) -> Authenticator:
        """Return the passkey that has signed. Raises `ValidationError`."""
        request = context.request
        credentials = {"username": self.counted_as()}
        if not AxesProxyHandler.is_allowed(request, credentials):
            request.axes_locked_out = True
            raise get_adapter().validation_error("incorrect_code")
        try:
            sent = self.cleaned_data["credential"]  # type: ignore[attr-defined]
            self.prepare(sent)
            _check_origin(auth.parse_authentication_response(sent).response.client_data)
            found: Authenticator = super().clean_credential()  # type: ignore[misc]
        except (ValidationError, *MALFORMED):
            user_login_failed.send(sender=__name__, credentials=credentials, request=request)
            raise get_adapter().validation_error("incorrect_code") from None
        return found

    def counted_as(self) -> str:
        """Return the name that failures are counted by."""
        assert self.user is not None
        return self.user.get_username()

    def prepare(self, sent: dict[str, Any]) -> None:
        """Change what was sent so that django-allauth understands it."""


class CountedPasskeyForm(CountedPasskey, AuthenticateWebAuthnForm):
    """The passkey of a login whose password was right."""


class CountedPasskeyConfirmationForm(CountedPasskey, ReauthenticateWebAuthnForm):
    """The passkey that confirms who is there before the factor is changed."""


class PasskeyLoginForm(CountedPasskey, LoginWebAuthnForm):
    """The passkey that logs in by itself. It says whose it is, so that failures are counted by address alone."""

    def counted_as(self) -> str:
        # No account has a blank in its name.
        return f"passkey {address_of(context.request) or ''}"

    def prepare(self, sent: dict[str, Any]) -> None:
        user = user_of(websafe_decode(sent["response"]["userHandle"]))
        sent["response"]["userHandle"] = urlsafe_base64_encode(user_pk_to_url_str(user).encode()) if user else ""


def _installation() -> str:
    return salted_hmac("steersman.passkeys", "installation", algorithm="sha256").hexdigest()[:16]


def _check_origin(client_data: Any) -> None:
    """Raises `ValidationError` unless the page that asked the authenticator was one of this portal.

    fido2 would take one of another port, or of a host below the portal's.
    """
    request = context.request
    own = {f"{request.scheme}://{request.get_host()}", *settings.STEERSMAN_ORIGINS, settings.STEERSMAN_PUBLIC_URL}
    if client_data.cross_origin or client_data.origin not in {_origin(each) for each in own}:
        raise get_adapter().validation_error("incorrect_code")


def _origin(address: str) -> str:
    """Return scheme, host and port of an address as browsers write them."""
    parts = urlsplit(address)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    port = f":{parts.port}" if parts.port not in (None, default) else ""
    return f"{parts.scheme}://{host}{port}"


def _kept(credential: dict[str, Any]) -> dict[str, Any]:
    """Return of a new credential what later logins need. Raises one of `MALFORMED`."""
    response = credential["response"]
    parts = {
        "id": credential["id"],
        "rawId": credential["rawId"],
        "clientDataJSON": response["clientDataJSON"],
        "attestationObject": response["attestationObject"],
    }
    if not all(isinstance(part, str) and part.isascii() and len(part) <= LONGEST_PART for part in parts.values()):
        raise ValueError("no credential")
    is_resident = credential.get("clientExtensionResults", {}).get("credProps", {}).get("rk") is True
    return {
        "id": parts["id"],
        "rawId": parts["rawId"],
        "type": "public-key",
        "response": {name: parts[name] for name in ("clientDataJSON", "attestationObject")},
        "clientExtensionResults": {"credProps": {"rk": is_resident}},
    }
