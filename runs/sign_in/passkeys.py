"""Passkeys and security keys (WebAuthn): the address for which they are valid, and the data that browsers send.

Data from browsers is not trusted: it is validated before django-allauth and fido2 get it, and little of it is stored.
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
# The limit for each text of a new passkey, in characters; a key with its attestation takes a few hundred.
LONGEST_PART = 16_384
# The exceptions of the parsers for malformed data and unknown kinds of keys.
MALFORMED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RecursionError, TypeError,
    ValueError,
)  # fmt: skip


def relying_party(request: HttpRequest) -> str:
    """Return the domain for which passkeys are valid: that of STEERSMAN_PUBLIC_URL over https, else the request's host.

    Browsers refuse it on pages of another host.
    """
    public = urlsplit(str(settings.STEERSMAN_PUBLIC_URL))
    if public.scheme == "https" and public.hostname:
        return public.hostname
    host: str = split_domain_port(request.get_host())[0]
    return host


def handle_of(user: User) -> bytes:
    """Return the user handle, which an authenticator stores with a passkey.

    It replaces a passkey with the same host and handle, so two portals on one host must not have equal handles.
    """
    return f"{_installation()}-{user.pk}".encode()


def user_of(handle: bytes) -> User | None:
    """Return the user with this handle, None if it does not come from `handle_of`."""
    _, _, number = handle.decode().rpartition("-")
    return User.objects.filter(pk=int(number)).first() if number.isascii() and number.isdigit() else None


def default_name(request: HttpRequest) -> str:
    """Return the name of a new passkey: that of the browser."""
    return device_of(request.META.get("HTTP_USER_AGENT", ""))[:LONGEST_NAME]


class PasskeyForm(AddWebAuthnForm):
    """Adds a passkey. With STEERSMAN_PASSKEY_LOGIN it replaces the password, otherwise it is a second factor."""

    name = forms.CharField(required=False, max_length=LONGEST_NAME)

    def clean(self) -> dict[str, Any]:
        """Return the name, and the parts of the credential that logins need. Raises `ValidationError`."""
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
    """Verifies the signature of an authenticator, for the forms below. An invalid one counts as a wrong password.

    Signatures cannot be guessed: the count limits the number of requests.
    """

    user: User | None

    def clean_credential(self) -> Authenticator:
        """Return the passkey that signed. Raises `ValidationError`."""
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
        """Return the name under which failures are counted."""
        assert self.user is not None
        return self.user.get_username()

    def prepare(self, sent: dict[str, Any]) -> None:
        """Change the sent data into the form that django-allauth expects."""


class CountedPasskeyForm(CountedPasskey, AuthenticateWebAuthnForm):
    """The passkey of a login, after the correct password."""


class CountedPasskeyConfirmationForm(CountedPasskey, ReauthenticateWebAuthnForm):
    """The passkey that confirms the person's identity before a factor is changed."""


class PasskeyLoginForm(CountedPasskey, LoginWebAuthnForm):
    """The passkey that replaces the password. It names its user itself, so failures are counted by address only."""

    def counted_as(self) -> str:
        # The blank makes it differ from every account name.
        return f"passkey {address_of(context.request) or ''}"

    def prepare(self, sent: dict[str, Any]) -> None:
        user = user_of(websafe_decode(sent["response"]["userHandle"]))
        sent["response"]["userHandle"] = urlsafe_base64_encode(user_pk_to_url_str(user).encode()) if user else ""


def _installation() -> str:
    return salted_hmac("steersman.passkeys", "installation", algorithm="sha256").hexdigest()[:16]


def _check_origin(client_data: Any) -> None:
    """Raise `ValidationError` unless the page that used the authenticator belongs to this portal.

    fido2 would also accept another port, or a subdomain of the portal's host.
    """
    request = context.request
    own = {f"{request.scheme}://{request.get_host()}", *settings.STEERSMAN_ORIGINS, settings.STEERSMAN_PUBLIC_URL}
    if client_data.cross_origin or client_data.origin not in {_origin(each) for each in own}:
        raise get_adapter().validation_error("incorrect_code")


def _origin(address: str) -> str:
    """Return scheme, host and port of a URL as browsers write them."""
    parts = urlsplit(address)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    port = f":{parts.port}" if parts.port not in (None, default) else ""
    return f"{parts.scheme}://{host}{port}"


def _kept(credential: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a new credential that later logins need. Raises one of `MALFORMED`."""
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
