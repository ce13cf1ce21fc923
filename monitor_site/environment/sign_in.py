"""Settings of the second factor and of single sign-on, and of django-allauth for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

SECOND_FACTORS = ("totp", "webauthn")
NEEDED = ("STEERSMAN_OIDC_ISSUER", "STEERSMAN_OIDC_CLIENT_ID", "STEERSMAN_OIDC_CLIENT_SECRET")
OPTIONAL = ("STEERSMAN_OIDC_NAME", "STEERSMAN_OIDC_GROUPS_CLAIM", "STEERSMAN_OIDC_ROLES")
ROLES = ("viewer", "operator", "owner")
# Part of the URLs; the provider has the callback URL on its list.
PROVIDER_ID = "oidc"

# django-allauth's sign-up, mail and in-memory counts are not used: invites create accounts, django-axes counts.
ALLAUTH: dict[str, Any] = {
    "ACCOUNT_ADAPTER": "runs.sign_in.adapters.AccountAdapter",
    "ACCOUNT_EMAIL_VERIFICATION": "none",
    "ACCOUNT_RATE_LIMITS": False,
    "SOCIALACCOUNT_ADAPTER": "runs.sign_in.adapters.SignOnAdapter",
    "SOCIALACCOUNT_EMAIL_VERIFICATION": "none",
    # A link, because the Content-Security-Policy forbids forms that lead to another host.
    "SOCIALACCOUNT_LOGIN_ON_GET": True,
    "MFA_ADAPTER": "runs.sign_in.adapters.SecondFactorAdapter",
    "MFA_ALLOW_UNVERIFIED_EMAIL": True,
    "MFA_FORMS": {
        "authenticate": "runs.sign_in.second_factor.CountedCodeForm",
        "reauthenticate": "runs.sign_in.second_factor.CountedConfirmationForm",
        "add_webauthn": "runs.sign_in.passkeys.PasskeyForm",
        "authenticate_webauthn": "runs.sign_in.passkeys.CountedPasskeyForm",
        "reauthenticate_webauthn": "runs.sign_in.passkeys.CountedPasskeyConfirmationForm",
        "login_webauthn": "runs.sign_in.passkeys.PasskeyLoginForm",
    },
    # A lab logs in from one address, so rate limits by address do not apply.
    "MFA_RATE_LIMITS": False,
    "MFA_TOTP_ISSUER": "Steersman",
    # The clocks of phones are off by some seconds, and typing takes some.
    "MFA_TOTP_TOLERANCE": 1,
}


def second_factor(text: str) -> tuple[str, ...]:
    """Return the kinds of second factors that are offered, and that logins then require; none if it is off.

    Raises `ImproperlyConfigured`.
    """
    chosen = {part.strip() for part in text.lower().split(",") if part.strip()} - {"off"}
    if not chosen <= set(SECOND_FACTORS):
        raise ImproperlyConfigured(
            f"STEERSMAN_SECOND_FACTOR is {text!r}: set it to 'off', 'totp', 'webauthn' or 'totp,webauthn'"
        )
    return tuple(kind for kind in SECOND_FACTORS if kind in chosen)


def passkey_login(is_wanted: bool, factors: tuple[str, ...]) -> bool:
    """Return whether passkeys replace the password. Raises `ImproperlyConfigured` if passkeys are not offered."""
    if is_wanted and "webauthn" not in factors:
        raise ImproperlyConfigured(
            "STEERSMAN_PASSKEY_LOGIN is on, but passkeys are off: set STEERSMAN_SECOND_FACTOR=webauthn, or "
            "totp,webauthn"
        )
    return is_wanted


def allauth_settings(factors: tuple[str, ...], is_passkey_login: bool, provider: SingleSignOn | None) -> dict[str, Any]:
    """Return the settings of django-allauth."""
    return ALLAUTH | {
        "MFA_SUPPORTED_TYPES": [*factors, "recovery_codes"],
        "MFA_PASSKEY_LOGIN_ENABLED": is_passkey_login,
        "SOCIALACCOUNT_PROVIDERS": provider.providers() if provider else {},
    }


@dataclass(frozen=True, slots=True)
class GroupRole:
    """The role of a group's members in a project, which is given by its slug."""

    group: str
    project: str
    role: str


@dataclass(frozen=True, slots=True)
class SingleSignOn:
    """An OpenID Connect provider for logins. `name` is the text of its button."""

    issuer: str
    client_id: str
    secret: str = field(repr=False)
    name: str
    groups_claim: str
    roles: tuple[GroupRole, ...]

    @property
    def provider_id(self) -> str:
        return PROVIDER_ID

    def providers(self) -> dict[str, Any]:
        """Return `SOCIALACCOUNT_PROVIDERS` of django-allauth."""
        app = {
            "provider_id": PROVIDER_ID,
            "name": self.name,
            "client_id": self.client_id,
            "secret": self.secret,
            "settings": {"server_url": self.issuer},
        }
        return {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}}


def single_sign_on(env: environ.Env) -> SingleSignOn | None:
    """Return the provider in STEERSMAN_OIDC_…, None if there is none. Raises `ImproperlyConfigured`."""
    given = {name: env(name, default="").strip() for name in (*NEEDED, *OPTIONAL)}
    if not any(given.values()):
        return None
    missing = [name for name in NEEDED if not given[name]]
    if missing:
        raise ImproperlyConfigured(
            f"single sign-on is incomplete: set {', '.join(missing)} too, or unset all STEERSMAN_OIDC_ variables"
        )
    return SingleSignOn(
        issuer=_issuer(given["STEERSMAN_OIDC_ISSUER"]),
        client_id=given["STEERSMAN_OIDC_CLIENT_ID"],
        secret=given["STEERSMAN_OIDC_CLIENT_SECRET"],
        name=given["STEERSMAN_OIDC_NAME"] or "SSO",
        groups_claim=given["STEERSMAN_OIDC_GROUPS_CLAIM"] or "groups",
        roles=group_roles("STEERSMAN_OIDC_ROLES", given["STEERSMAN_OIDC_ROLES"]),
    )


def _issuer(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")):
        # Its answers identify people, so they must not be changed on the way.
        raise ImproperlyConfigured(f"STEERSMAN_OIDC_ISSUER is {text!r}: give the https:// address of the provider")
    return text.rstrip("/")


def group_roles(setting: str, text: str) -> tuple[GroupRole, ...]:
    """Return the rules in a setting. Raises `ImproperlyConfigured` with the name of the setting."""
    return tuple(_group_role(setting, each.strip()) for each in text.split(",") if each.strip())


def _group_role(setting: str, text: str) -> GroupRole:
    group, _, place = text.rpartition("=")
    project, _, role = place.rpartition(":")
    if not group or not project or role not in ROLES:
        raise ImproperlyConfigured(
            f"{setting}: {text!r} is not a rule; write group=project:role, where role is one of {', '.join(ROLES)}"
        )
    return GroupRole(group, project, role)
