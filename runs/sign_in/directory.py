"""Logins with the password of a directory (LDAP). Needs django-auth-ldap, which is imported only if the setting is on.

An entry of the directory only opens the account that was created for it: a person who can choose a name in the
directory must not get access to a local account of that name.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import ldap
from allauth.socialaccount.models import SocialAccount
from allauth.utils import generate_unique_username
from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django_auth_ldap.backend import LDAPBackend, LDAPSettings, ldap_error
from django_auth_ldap.config import LDAPSearch
from ldap.filter import escape_filter_chars

from runs.access.logins import PasswordBackend
from runs.sign_in.directory_marks import DIRECTORY, note_failure

if TYPE_CHECKING:
    from monitor_site.environment.directory import Directory

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 5
LDAPS_PORT = 636
# An unavailable directory is not asked again for this long, because each attempt delays a login by its timeout.
AWAY_FOR_S = 15.0
AWAY = (ldap.SERVER_DOWN, ldap.TIMEOUT, ldap.CONNECT_ERROR, ldap.UNAVAILABLE, ldap.BUSY)
# Attributes that identify an entry permanently, of OpenLDAP and others, and Active Directory. A login name may be given
# to another person later.
LASTING_NAMES = ("entryUUID", "objectGUID", "nsUniqueId", "ipaUniqueID")
LONGEST_NAME = 150

_away_until = 0.0


class DirectoryBackend(LDAPBackend):
    """Finds the entry of a name, lets the directory check the password, and reads the entry's groups."""

    @property
    def settings(self) -> LDAPSettings:
        """Return the settings of django-auth-ldap for STEERSMAN_LDAP_…."""
        return LDAPSettings("STEERSMAN_NO_SUCH_", options())

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        """Return the account of the person with this name and password in the directory, None if there is none."""
        if time.monotonic() < _away_until:
            note_failure(request)
            return None
        try:
            greet()
        except OSError as error:
            logger.warning("the directory server does not answer (%s): its users cannot log in until it does", error)
            _failed(DirectoryBackend, request, ldap.SERVER_DOWN())
            return None
        user: User | None = super().authenticate(request, username, password, **kwargs)
        return user

    def authenticate_ldap_user(self, ldap_user: Any, password: str) -> User | None:
        """Check the password, and store the groups for the login, which may follow only after a second factor."""
        user: User | None = super().authenticate_ldap_user(ldap_user, password)
        if user is None or not chosen_directory().groups:
            return user
        try:
            groups = groups_of(ldap_user)
        except ldap.LDAPError as error:
            # Without an answer the login is refused, so that roles are neither kept too long nor lost.
            ldap_error.send(DirectoryBackend, context="groups", user=user, request=ldap_user._request, exception=error)
            return None
        SocialAccount.objects.filter(user=user, provider=DIRECTORY).update(extra_data={"groups": groups})
        return user

    def get_or_build_user(self, username: str, ldap_user: Any) -> tuple[User, bool]:
        """Return the account of an entry, created at the first login if the name is free."""
        lasting = lasting_name(ldap_user)
        try:
            with transaction.atomic():
                found = SocialAccount.objects.filter(provider=DIRECTORY, uid=lasting).select_related("user").first()
                if found is not None:
                    return found.user, False
                user = User(username=generate_unique_username([username]), **names_of(ldap_user))
                user.set_unusable_password()
                user.save()
                SocialAccount.objects.create(user=user, provider=DIRECTORY, uid=lasting)
        except IntegrityError:
            # Of two concurrent first logins, the other one was faster.
            return SocialAccount.objects.get(provider=DIRECTORY, uid=lasting).user, False
        return user, False

    def get_user(self, user_id: int) -> User | None:
        """Return the user of a session, None once the account is deactivated."""
        user: User | None = PasswordBackend().get_user(user_id)
        return user

    def get_group_permissions(self, user: User, obj: Any = None) -> set[str]:
        """Return no permissions: groups give roles in projects."""
        return set()


def chosen_directory() -> Directory:
    """Return the directory in the settings, which exists whenever this module is loaded."""
    chosen = settings.STEERSMAN_LDAP
    assert chosen is not None
    return chosen


def options() -> dict[str, Any]:
    """Return the settings of django-auth-ldap for its queries."""
    chosen = chosen_directory()
    return {
        "SERVER_URI": chosen.url,
        "START_TLS": chosen.starts_tls,
        "BIND_DN": chosen.bind_dn,
        "BIND_PASSWORD": chosen.bind_password,
        "USER_SEARCH": LDAPSearch(chosen.users, ldap.SCOPE_SUBTREE, chosen.user_filter, ["*", "+"]),
        "ALWAYS_UPDATE_USER": False,
        "CONNECTION_OPTIONS": connection_options(),
    }


def connection_options() -> dict[int, Any]:
    """Return the options of a connection: timeouts, and the verification of certificates."""
    chosen = chosen_directory()
    authorities = {ldap.OPT_X_TLS_CACERTFILE: chosen.ca_file} if chosen.ca_file else {}
    return {
        ldap.OPT_NETWORK_TIMEOUT: ANSWER_TIMEOUT_S,
        ldap.OPT_TIMEOUT: ANSWER_TIMEOUT_S,
        # A referral could send the password to another server.
        ldap.OPT_REFERRALS: 0,
        ldap.OPT_X_TLS_REQUIRE_CERT: ldap.OPT_X_TLS_DEMAND,
        **authorities,
        # Must be last, because it applies the options above.
        ldap.OPT_X_TLS_NEWCTX: 0,
    }


def groups_of(ldap_user: Any) -> list[str]:
    """Return the names (cn) of the groups that contain an entry, by its DN or its login name.

    Raises `ldap.LDAPError`.
    """
    name = escape_filter_chars(ldap_user.dn)
    login = escape_filter_chars((ldap_user.attrs.get("uid") or [""])[0])
    wanted = f"(|(member={name})(uniqueMember={name}){f'(memberUid={login})' if login else ''})"
    found = ldap_user.connection.search_s(chosen_directory().groups, ldap.SCOPE_SUBTREE, wanted, ["cn"])
    return sorted({each.decode() for dn, parts in found if dn is not None for each in parts.get("cn", ())})


def lasting_name(ldap_user: Any) -> str:
    """Return the permanent identifier of an entry, its DN if the directory has nothing better."""
    for attribute in LASTING_NAMES:
        values = ldap_user.attrs.get(attribute)
        if values:
            return f"{attribute}:{values[0].hex() if isinstance(values[0], bytes) else values[0]}"[:191]
    return f"dn:{ldap_user.dn}"[:191]


def names_of(ldap_user: Any) -> dict[str, str]:
    """Return first and last name of an entry, if it has them."""
    parts = {"first_name": "givenName", "last_name": "sn"}
    values = {name: (ldap_user.attrs.get(attribute) or [""])[0] for name, attribute in parts.items()}
    return {name: value[:LONGEST_NAME] for name, value in values.items() if isinstance(value, str)}


def _failed(sender: Any, request: HttpRequest | None, exception: Exception, **kwargs: Any) -> None:
    global _away_until
    note_failure(request)
    if isinstance(exception, AWAY):
        _away_until = time.monotonic() + AWAY_FOR_S


def greet() -> None:
    """Check that an ldaps:// server completes the handshake in time, for which libldap has no timeout. Raises
    `OSError`.
    """
    chosen = chosen_directory()
    parts = urlsplit(chosen.url)
    if parts.scheme != "ldaps":
        return
    trusting = ssl.create_default_context(cafile=chosen.ca_file or None)
    place = (parts.hostname or "", parts.port or LDAPS_PORT)
    with (
        socket.create_connection(place, ANSWER_TIMEOUT_S) as plain,
        trusting.wrap_socket(plain, server_hostname=parts.hostname),
    ):
        pass


def look() -> int:
    """Search the directory with the filter of the login; return 1 if it finds anybody, otherwise 0.

    Raises `ldap.LDAPError` and `OSError`.
    """
    greet()
    chosen = chosen_directory()
    connection = ldap.initialize(chosen.url)
    for name, value in connection_options().items():
        connection.set_option(name, value)
    if chosen.starts_tls:
        connection.start_tls_s()
    connection.simple_bind_s(chosen.bind_dn, chosen.bind_password)
    try:
        wanted = chosen.user_filter.replace("%(user)s", "*")
        return len(connection.search_ext_s(chosen.users, ldap.SCOPE_SUBTREE, wanted, ["1.1"], sizelimit=1))
    except ldap.SIZELIMIT_EXCEEDED:
        return 1
    finally:
        connection.unbind_s()


ldap_error.connect(_failed, sender=DirectoryBackend, dispatch_uid="directory-failed")
