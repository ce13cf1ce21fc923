"""Settings of a directory (LDAP) that checks people's passwords."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from monitor_site.environment.sign_in import GroupRole, group_roles

OPTIONS = ("BIND_DN", "BIND_PASSWORD", "USERS", "USER_FILTER", "GROUPS", "ROLES", "CA_FILE")
ON_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
LIBRARY = "django_auth_ldap"


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory. `users` and `groups` are the entries below which people and groups are searched.

    `groups` is empty if no role depends on them. A connection begins with StartTLS if `starts_tls`; ldaps:// is
    encrypted from the first byte.
    """

    url: str
    starts_tls: bool
    bind_dn: str
    bind_password: str = field(repr=False)
    users: str
    user_filter: str
    groups: str
    roles: tuple[GroupRole, ...]
    ca_file: str


def directory(env: environ.Env) -> Directory | None:
    """Return the directory in STEERSMAN_LDAP_…, None if there is none. Raises `ImproperlyConfigured`."""
    url = env("STEERSMAN_LDAP_URL", default="").strip()
    given = {name: env(f"STEERSMAN_LDAP_{name}", default="").strip() for name in OPTIONS}
    if not url:
        if any(given.values()):
            names = ", ".join(f"STEERSMAN_LDAP_{name}" for name, value in given.items() if value)
            raise ImproperlyConfigured(
                f"STEERSMAN_LDAP_URL is empty, but other settings of the directory are not ({names}): set "
                "STEERSMAN_LDAP_URL to the address of the directory server"
            )
        return None
    if not given["USERS"]:
        raise ImproperlyConfigured(
            "STEERSMAN_LDAP_USERS is empty: give the directory entry below which users are searched for, such as "
            "ou=people,dc=example,dc=org"
        )
    if "%(user)s" not in (given["USER_FILTER"] or "%(user)s"):
        raise ImproperlyConfigured(
            "STEERSMAN_LDAP_USER_FILTER does not contain %(user)s, the placeholder of the user name: give a filter "
            "such as (uid=%(user)s)"
        )
    if bool(given["ROLES"]) != bool(given["GROUPS"]):
        raise ImproperlyConfigured("set both STEERSMAN_LDAP_ROLES and STEERSMAN_LDAP_GROUPS, or neither of them")
    if given["CA_FILE"] and not Path(given["CA_FILE"]).is_file():
        raise ImproperlyConfigured(
            f"STEERSMAN_LDAP_CA_FILE: there is no file {given['CA_FILE']!r}. Name the file with the CA certificates"
        )
    if importlib.util.find_spec(LIBRARY) is None:
        raise ImproperlyConfigured(
            "STEERSMAN_LDAP_URL needs django-auth-ldap, which is not installed: pip install -r requirements-ldap.txt"
        )
    return Directory(
        url=url,
        starts_tls=_starts_tls(url),
        bind_dn=given["BIND_DN"],
        bind_password=given["BIND_PASSWORD"],
        users=given["USERS"],
        user_filter=given["USER_FILTER"] or "(uid=%(user)s)",
        groups=given["GROUPS"],
        roles=group_roles("STEERSMAN_LDAP_ROLES", given["ROLES"]),
        ca_file=given["CA_FILE"],
    )


def _starts_tls(url: str) -> bool:
    """Return whether a connection must begin with StartTLS: with plain ldap:// to another machine."""
    parts = urlsplit(url)
    if parts.scheme not in ("ldap", "ldaps", "ldapi") or (parts.scheme != "ldapi" and not parts.hostname):
        raise ImproperlyConfigured(
            f"STEERSMAN_LDAP_URL is {url!r}: give ldaps://ldap.example.org, or ldap:// for a server that has StartTLS"
        )
    return parts.scheme == "ldap" and parts.hostname not in ON_THIS_MACHINE
