"""Encrypts and signs with `SECRET_KEY` (Fernet), using a separate key for each purpose."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import cache

from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.utils.encoding import force_bytes


def fernet(purpose: str) -> MultiFernet:
    """Return a cipher that encrypts with `SECRET_KEY`, and also decrypts with `SECRET_KEY_FALLBACKS`."""
    return MultiFernet([_key(secret, purpose) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


@cache
def _key(secret: str | bytes, purpose: str) -> Fernet:
    derived = HKDF(hashes.SHA256(), length=32, salt=None, info=purpose.encode()).derive(force_bytes(secret))
    return Fernet(urlsafe_b64encode(derived))
