"""Permissions to see and command a run: members by their role, scripts and share links by their token."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _

from runs.models import AccessToken, Membership, Role, Run, RunQuerySet, TokenScope
from runs.protocol.commands import COMMANDS

COMMANDING_ROLES = frozenset({Role.OPERATOR, Role.OWNER})
# Tokens with these scopes cannot read runs.
NOT_READING = frozenset({TokenScope.METRICS, TokenScope.TRAIN})
# What somebody is who follows a share link: they see counts and roles, and no member's name.
SHARED = str(TokenScope.SHARE)


@dataclass(frozen=True, slots=True)
class Viewer:
    """A person or script that watches a run, with its role and permissions.

    Without `user_id` it is a share link, whose `name` is empty and whose `role` is "share".
    """

    user_id: int | None
    name: str
    role: str

    @property
    def may(self) -> list[str]:
        return sorted(COMMANDS) if self.role in COMMANDING_ROLES else []

    @property
    def may_command(self) -> bool:
        return self.role in COMMANDING_ROLES

    @property
    def is_guest(self) -> bool:
        return self.role == SHARED


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of an HTTP request: a user with a session, or with a token that limits their permissions."""

    user: User
    token: AccessToken | None = None

    def runs(self) -> RunQuerySet:
        """Return the runs that this caller may see now."""
        runs = Run.objects.visible_to(self.user)
        if self.token is None:
            return runs
        runs = runs.filter(project_id=self.token.project_id)
        return runs if self.token.run_id is None else runs.filter(pk=self.token.run_id)

    def membership(self, slug: str) -> Membership | None:
        """Return the caller's membership of a project as a whole, None if they have none. A token may be narrower."""
        if self.token is not None and self.token.run_id is not None:
            return None
        own = Membership.objects.filter(project__slug=slug, user=self.user).select_related("project", "user")
        return (own if self.token is None else own.filter(project_id=self.token.project_id)).first()

    @property
    def may_change(self) -> bool:
        """Whether the caller may change something at all, if their role allows it: not with a token that only reads."""
        return self.token is None or self.token.scope == TokenScope.COMMAND

    def viewer(self, run: Run) -> Viewer | None:
        """Return this caller as a viewer of `run`, None if they may not see it."""
        role = role_of(self.user, run)
        if role is None:
            return None
        if self.token is None:
            return Viewer(user_id=self.user.pk, name=display_name(self.user), role=role)
        return viewer_by_token(self.token, self.user, role, run.pk, run.project_id)


def display_name(user: AbstractBaseUser) -> str:
    """Return what other members see: the full name, or the user name if there is none."""
    full_name = user.get_full_name() if isinstance(user, User) else ""
    return full_name or user.get_username()


def role_of(user: AbstractBaseUser | AnonymousUser, run: Run) -> str | None:
    """Return the user's role in the run's project, None if they are not an active member."""
    return role_in(user, run.project_id)


def role_in(user: AbstractBaseUser | AnonymousUser, project_id: int) -> str | None:
    """Return the user's role in a project, None if they are not an active member."""
    if not user.is_authenticated or not user.is_active:
        return None
    return Membership.objects.filter(project_id=project_id, user_id=user.pk).values_list("role", flat=True).first()


def viewer_of(user: AbstractBaseUser | AnonymousUser, run: Run) -> Viewer | None:
    """Return `user` as a viewer of `run`, None if they may not see it."""
    return Caller(user).viewer(run) if isinstance(user, User) else None


def operators_only() -> str:
    """Return the refusal of an action that only operators and owners may do, so that all places use one sentence."""
    return _("Only operators and owners of the project may do this: ask an owner for the operator role.")


def commanded_run(user: AbstractBaseUser | AnonymousUser, run_id: int) -> Run:
    """Return the run if `user` may command it. Raises `Http404` if they may not see it, else `PermissionDenied`."""
    run = get_object_or_404(Run.objects.visible_to(user).select_related("project"), pk=run_id)
    viewer = viewer_of(user, run)
    if viewer is None:
        raise Http404
    if not viewer.may_command:
        raise PermissionDenied(operators_only())
    return run


def membership_in(user: AbstractBaseUser | AnonymousUser, slug: str) -> Membership:
    """Return the user's membership of a project. Raises `Http404` if they do not belong to it."""
    members = Membership.objects.select_related("project", "user")
    return get_object_or_404(members, project__slug=slug, user_id=user.pk)


def viewer_by_token(token: AccessToken, creator: User, role: str, run_id: int, project_id: int) -> Viewer | None:
    """Return the bearer of `token` as a viewer of a run, None if the token is not valid for it.

    `role` is the current role of the token's creator. A token allows at most what an operator may do. Its bearer
    appears as the creator with the token's name, so that the command log distinguishes scripts from people.
    """
    if token.project_id != project_id or token.run_id not in (None, run_id) or token.scope in NOT_READING:
        return None
    if token.scope == TokenScope.SHARE:
        return Viewer(user_id=None, name="", role=SHARED)
    commands = token.scope == TokenScope.COMMAND and role in COMMANDING_ROLES
    name = f"{display_name(creator)} ({token.name})"
    return Viewer(user_id=creator.pk, name=name, role=Role.OPERATOR if commands else Role.VIEWER)
