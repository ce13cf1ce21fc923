"""Settings from environment variables, and secrets from files that such variables name."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from environ import FileAwareEnv
from environ.fileaware_mapping import FileAwareMapping


class Variables(FileAwareMapping):
    """Environment variables. `NAME_FILE` names a file whose text is the value of `NAME`.

    A line break at the end of the file, which editors and `echo` write, is not part of the value.
    """

    def __getitem__(self, name: str) -> Any:
        try:
            value = super().__getitem__(name)
        except (OSError, UnicodeDecodeError) as error:
            raise ImproperlyConfigured(
                f"{name}_FILE: {error}. Name a text file that this user can read, or set {name}."
            ) from None
        return value.rstrip("\r\n") if isinstance(value, str) and self.env.get(f"{name}_FILE") else value


class Environment(FileAwareEnv):
    ENVIRON = Variables()


def with_password(address: str, password: str) -> str:
    """Return a URL with its password replaced by `password`; the same URL if `password` is empty.

    Raises `ValueError` if the address is not a URL with a host.
    """
    if not password:
        return address
    parts = urlsplit(address)
    if not parts.hostname:
        raise ValueError("the address has no host, but a password is set. Give an address such as redis://redis:6379/0")
    place = parts.netloc.rpartition("@")[2]
    user = quote(parts.username or "", safe="%")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}").geturl()
