"""Settings of the second factor and of single sign-on, and how django-allauth is set for them."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured

SECOND_FACTORS = ("off", "totp")

# Its own sign-up, mail and counts in memory are not used: invites make accounts, django-axes counts.
ALLAUTH: dict[str, Any] = {
    "ACCOUNT_ADAPTER": "runs.sign_in.adapters.AccountAdapter",
    "ACCOUNT_EMAIL_VERIFICATION": "none",
    "ACCOUNT_RATE_LIMITS": False,
    "MFA_ADAPTER": "runs.sign_in.adapters.SecondFactorAdapter",
    "MFA_ALLOW_UNVERIFIED_EMAIL": True,
    "MFA_FORMS": {
        "authenticate": "runs.sign_in.second_factor.CountedCodeForm",
        "reauthenticate": "runs.sign_in.second_factor.CountedConfirmationForm",
    },
    "MFA_SUPPORTED_TYPES": ["totp", "recovery_codes"],
    "MFA_TOTP_ISSUER": "Steersman",
    # Clocks of phones are off by some seconds, and people type for some.
    "MFA_TOTP_TOLERANCE": 1,
}


def second_factor(text: str) -> bool:
    """Return whether people may have a second factor, which their logins then need. Raises `ImproperlyConfigured`."""
    chosen = text.strip().lower() or "off"
    if chosen not in SECOND_FACTORS:
        raise ImproperlyConfigured(f"STEERSMAN_SECOND_FACTOR is {text!r}: give one of {', '.join(SECOND_FACTORS)}")
    return chosen == "totp"
