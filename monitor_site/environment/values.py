"""Single values of the settings: the secret key, counts and networks, and the path of a package."""

from __future__ import annotations

import os
import secrets
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from steersman.files.private import narrow
from steersman.slots import MOST_SLOTS

# One TiB.
MOST_MEBIBYTES = 1 << 20


def secret_key(folder: Path) -> str:
    """Return the key in the data folder; create it with mode 0600 if there is none."""
    path = folder / "secret_key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        narrow(path)
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(48))
    return path.read_text().strip()


def package_folder(name: str) -> Path:
    """Return the path of a package without importing it, because only the web process needs the API's library."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ImproperlyConfigured(f"the package {name} is missing: pip install -r requirements.txt")
    return Path(spec.origin).parent


def slots(env: environ.Env, name: str) -> int:
    """Return how many runs may use a device at the same time."""
    text = env(name, default="1").strip()
    if not text.isdecimal() or int(text) > MOST_SLOTS:
        raise ImproperlyConfigured(f"{name} is {text!r}: give a whole number of runs from 0 to {MOST_SLOTS}")
    return int(text)


def networks(env: environ.Env, name: str) -> list[IPv4Network | IPv6Network]:
    """Return the networks in a variable, separated by commas."""
    try:
        return [ip_network(each.strip()) for each in env.list(name, default=[]) if each.strip()]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}. Give networks such as 10.1.0.0/16,fd00::/8") from error


def mebibytes(env: environ.Env, name: str, *, default: int, smallest: int) -> int:
    """Return a size in MiB."""
    text = env(name, default=str(default)).strip()
    if not text.isdecimal() or not smallest <= int(text) <= MOST_MEBIBYTES:
        raise ImproperlyConfigured(
            f"{name} is {text!r}: give a whole number of MiB from {smallest} to {MOST_MEBIBYTES}"
        )
    return int(text)
