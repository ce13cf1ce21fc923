"""Secrets that must be decrypted for use: passwords of mail accounts, and addresses that contain keys."""

from __future__ import annotations

from cryptography.fernet import InvalidToken

from runs.access.sealing import fernet
from steersman.marked_text import gettext_noop

PURPOSE = "runs.alerts.sending.secrets"


class UnreadableSecret(Exception):
    """The secret was encrypted with a key that is no longer in the settings: enter the secret again."""


def seal(text: str) -> str:
    """Return `text` encrypted with the current `SECRET_KEY`."""
    return fernet(PURPOSE).encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """Return the text that `seal` encrypted. Raises `UnreadableSecret`."""
    try:
        return fernet(PURPOSE).decrypt(sealed).decode()
    except InvalidToken as error:
        raise UnreadableSecret(
            gettext_noop(
                "The portal's secret key (STEERSMAN_SECRET_KEY) has changed since this secret was entered. Enter the "
                "secret again."
            )
        ) from error
