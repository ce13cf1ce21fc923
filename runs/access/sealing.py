"""Encrypting and signing by `SECRET_KEY` (Fernet), with a key of its own for each purpose."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import cache

from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.utils.encoding import force_bytes


def fernet(purpose: str) -> MultiFernet:
    """Return what encrypts with the secret key, and decrypts with `SECRET_KEY_FALLBACKS` too."""
    return MultiFernet([_key(secret, purpose) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


@cache
def _key(secret: str | bytes, purpose: str) -> Fernet:
    derived = HKDF(hashes.SHA256(), length=32, salt=None, info=purpose.encode()).derive(force_bytes(secret))
    return Fernet(urlsafe_b64encode(derived))
