"""Members of a project: invites, roles, and the rule that a project always has an owner."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from runs.access.notices import invite_revoked, invite_used
from runs.access.tokens import digest
from runs.models import Invite, Membership, Project, Role

INVITE_DAYS = 7
LONGEST_INVITE_DAYS = 90
KEY_BYTES = 32
RANK = {role: rank for rank, role in enumerate(Role)}


class LastOwner(Exception):
    """The change would leave the project without an owner; the text says what to do first."""


class InviteUnusable(Exception):
    """The invite is unknown, used, revoked or expired; the text says so."""


def create_project(name: str, slug: str, owner: User) -> Project:
    """Create a project that `owner` owns. `slug` must be free."""
    with transaction.atomic():
        project = Project.objects.create(name=name, slug=slug)
        Membership.objects.create(project=project, user=owner, role=Role.OWNER)
    return project


def free_slug(name: str) -> str:
    """Return a slug for `name` that no project has; names without Latin letters get a numbered one."""
    base = slugify(name)[:40] or "project"
    slug, number = base, 1
    while Project.objects.filter(slug=slug).exists():
        number += 1
        slug = f"{base}-{number}"
    return slug


def invite(project: Project, role: str, created_by: User, days: int = INVITE_DAYS) -> str:
    """Create an invite that is valid for `days`, and return its key. Only its hash is stored."""
    key = secrets.token_urlsafe(KEY_BYTES)
    Invite.objects.create(
        digest=digest(key),
        project=project,
        role=role,
        created_by=created_by,
        expires_at=timezone.now() + timedelta(days=days),
    )
    return key


def may_invite(user: User, project: Project) -> bool:
    """Return whether `user` may invite into the project. Owners may, and superusers on the command line."""
    if not user.is_active:
        return False
    return user.is_superuser or project.memberships.filter(user=user, role=Role.OWNER).exists()


def find_invite(key: str) -> Invite:
    """Return the invite of `key` if it can still be used. Raises `InviteUnusable`."""
    found = Invite.objects.select_related("project", "created_by").filter(digest=digest(key)).first()
    if found is None:
        raise InviteUnusable(_("There is no invite with this link: check that you copied all of it."))
    if found.used_at is not None:
        raise InviteUnusable(_("This invite has already been used: ask for a new one."))
    if found.revoked_at is not None:
        raise InviteUnusable(_("This invite was withdrawn: ask for a new one."))
    if found.expires_at <= timezone.now():
        raise InviteUnusable(_("This invite has expired: ask for a new one."))
    if not may_invite(found.created_by, found.project):
        # Otherwise a removed member could return through a link that they kept.
        raise InviteUnusable(
            _(
                "The person who created this invite is no longer an owner of the project: ask another owner for a "
                "new one."
            )
        )
    return found


def accept(key: str, user: User) -> Membership:
    """Use up the invite of `key` for `user` and return the membership. It can raise a member's role, but never lower
    it.

    Raises `InviteUnusable`, also if somebody else used it first.
    """
    with transaction.atomic():
        found = find_invite(key)
        now = timezone.now()
        unused = Invite.objects.filter(pk=found.pk, used_at=None, revoked_at=None, expires_at__gt=now)
        if not unused.update(used_at=now, used_by=user):
            raise InviteUnusable(_("This invite has already been used: ask for a new one."))
        invite_used.send(sender=Invite, invite=found, user=user)
        membership, _created = Membership.objects.get_or_create(
            project=found.project, user=user, defaults={"role": found.role}
        )
        if RANK[Role(membership.role)] < RANK[Role(found.role)]:
            membership.role = found.role
            membership.save(update_fields=["role"])
    return membership


def open_invites(project: Project) -> list[Invite]:
    """Return the invites of a project that can still be used, newest first."""
    unused = Invite.objects.filter(project=project, used_at=None, revoked_at=None, expires_at__gt=timezone.now())
    return list(unused.select_related("created_by"))


def revoke_invite(project: Project, invite_id: int) -> bool:
    """Revoke an invite that was not used yet; return whether this call revoked it."""
    return revoke_invites(project.invites.filter(pk=invite_id)) == 1


def revoke_invites(invites: QuerySet[Invite]) -> int:
    """Revoke those of `invites` that were not used or revoked yet; return how many."""
    number = 0
    for each in list(invites.filter(used_at=None, revoked_at=None).select_related("project")):
        with transaction.atomic():
            unused = Invite.objects.filter(pk=each.pk, used_at=None, revoked_at=None)
            if unused.update(revoked_at=timezone.now()):
                invite_revoked.send(sender=Invite, invite=each)
                number += 1
    return number


def change_role(membership: Membership, role: str) -> None:
    """Give a member another role. Raises `LastOwner`."""
    with transaction.atomic():
        _keep_an_owner(membership, role)
        membership.role = role
        membership.save(update_fields=["role"])


def remove(membership: Membership) -> None:
    """Remove a member from the project; the record of their actions stays. Raises `LastOwner`."""
    with transaction.atomic():
        _keep_an_owner(membership, None)
        membership.delete()


def _keep_an_owner(membership: Membership, role: str | None) -> None:
    # The row lock of the project serializes two owners who leave at the same moment: one of them must stay.
    Project.objects.select_for_update().get(pk=membership.project_id)
    owners = Membership.objects.filter(project_id=membership.project_id, role=Role.OWNER, user__is_active=True)
    if role != Role.OWNER and owners.filter(pk=membership.pk).exists() and owners.count() == 1:
        raise LastOwner(_("A project needs an owner: make somebody else an owner first."))
