"""Refuses settings that would open the portal to everybody, at start-up and by name."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

SHORTEST_KEY = 32
FEWEST_CHARACTERS = 5
MAKE_KEY = "python -c 'import secrets; print(secrets.token_urlsafe(48))'"


def strong_key(key: str) -> str:
    """Return the secret key that a person set. Raises `ImproperlyConfigured` if it could be guessed."""
    if len(key) < SHORTEST_KEY or len(set(key)) < FEWEST_CHARACTERS or key.startswith("django-insecure-"):
        raise ImproperlyConfigured(
            "STEERSMAN_SECRET_KEY can be guessed, and anyone who knows it can log in as any user. Set at least "
            f"{SHORTEST_KEY} random characters, such as the output of {MAKE_KEY}, or unset the variable: a key is "
            "then generated in the data folder"
        )
    return key


def named_hosts(hosts: list[str]) -> list[str]:
    """Return the host names at which the portal answers. Raises `ImproperlyConfigured` for `*`."""
    if "*" in (host.strip() for host in hosts):
        raise ImproperlyConfigured(
            "STEERSMAN_HOSTS must not contain *: an attacker could then put another host name into the links in "
            "invitations and alert messages. List the host names, such as steersman.example.org; .example.org allows "
            "all hosts of that domain"
        )
    return hosts
