"""Roles in projects by the groups that the provider of single sign-on, or a directory, reports at a login."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from allauth.account.authentication import get_authentication_records
from allauth.account.signals import user_logged_in
from allauth.socialaccount.models import SocialAccount, SocialLogin
from django.conf import settings
from django.contrib.auth import signals
from django.contrib.auth.models import User
from django.http import HttpRequest

from runs.access.membership import RANK, LastOwner, change_role, remove
from runs.models import Membership, Project, Role
from runs.sign_in.directory_marks import DIRECTORY

if TYPE_CHECKING:
    from monitor_site.environment.sign_in import GroupRole

logger = logging.getLogger(__name__)


def connect() -> None:
    """Apply groups once a login is complete: after the second factor, if there is one."""
    user_logged_in.connect(_logged_in, dispatch_uid="groups-of-a-login")
    # The admin's login does not use django-allauth.
    signals.user_logged_in.connect(_logged_in_by_directory, dispatch_uid="groups-of-a-directory")


def groups_in(claims: Mapping[str, Any], name: str) -> set[str]:
    """Return the groups in the claim `name` of the user info or the ID token; a single one may be a text."""
    found: set[str] = set()
    for part in (claims.get("userinfo"), claims.get("id_token")):
        value = part.get(name) if isinstance(part, dict) else None
        found |= {value} if isinstance(value, str) else {each for each in value or () if isinstance(each, str)}
    return found


def apply_groups(user: User, groups: Collection[str], rules: Collection[GroupRole], setting: str) -> None:
    """Give `user` the highest role of their groups in each project with a rule; remove them if no group matches.

    `setting` is the name of the setting with the rules. A project keeps its last owner, whatever the groups are. Other
    projects are not changed.
    """
    slugs = {rule.project for rule in rules}
    projects = {project.slug: project for project in Project.objects.filter(slug__in=slugs)}
    for slug in sorted(slugs - projects.keys()):
        logger.warning(
            "%s names the project %r, which does not exist: create the project, or correct the setting", setting, slug
        )
    for slug, project in projects.items():
        earned = [Role(rule.role) for rule in rules if rule.project == slug and rule.group in groups]
        wanted = max(earned, key=lambda role: RANK[role], default=None)
        try:
            _set_role(user, project, wanted)
        except LastOwner:
            logger.warning(
                "%s: %s should no longer be an owner of the project %s, but is its only owner and stays one; make "
                "another member an owner",
                setting,
                user.get_username(),
                slug,
            )


def _set_role(user: User, project: Project, wanted: Role | None) -> None:
    """Set the role, or remove the member if `wanted` is None. Raises `LastOwner`."""
    membership = Membership.objects.filter(user=user, project=project).first()
    if membership is None:
        if wanted is not None:
            Membership.objects.get_or_create(user=user, project=project, defaults={"role": wanted})
    elif wanted is None:
        remove(membership)
    elif membership.role != wanted:
        change_role(membership, wanted)


def _logged_in(sender: Any, user: User, sociallogin: SocialLogin | None = None, **kwargs: Any) -> None:
    provider = settings.STEERSMAN_OIDC
    if sociallogin is not None and provider is not None and provider.roles:
        groups = groups_in(sociallogin.account.extra_data, provider.groups_claim)
        apply_groups(user, groups, provider.roles, "STEERSMAN_OIDC_ROLES")


def _logged_in_by_directory(sender: Any, request: HttpRequest | None, user: User, **kwargs: Any) -> None:
    directory = settings.STEERSMAN_LDAP
    methods = [each["method"] for each in get_authentication_records(request, user)] if request is not None else []
    if directory is None or not directory.roles or "socialaccount" in methods:
        return
    # The groups were read at the last login with a password.
    entry = SocialAccount.objects.filter(user=user, provider=DIRECTORY).first()
    if entry is not None:
        apply_groups(user, set(entry.extra_data.get("groups", ())), directory.roles, "STEERSMAN_LDAP_ROLES")
