"""Checks the permissions of open sockets again, many sockets in a few queries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from runs.access.roles import Viewer, display_name, viewer_by_token
from runs.access.tokens import valid
from runs.models import AccessToken, Membership, Run

NOT_AUTHENTICATED = 4401
NOT_ALLOWED = 4403
NO_SUCH_RUN = 4404


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to watch a run, held by a user through a session or a token.

    `auth_hash` changes with the user's password. It is empty for tokens, which stay valid when the password changes; a
    grant without session and token identifies only the user.
    """

    run_id: int
    user_id: int
    session_key: str = ""
    auth_hash: str = ""
    token_id: int | None = None


def check_grants(grants: Collection[Grant]) -> dict[Grant, Viewer | int]:
    """Return for each grant its current viewer, or the close code that ends it.

    4401: logged out, password changed, user deactivated, token revoked or expired. 4403: no longer a member. 4404:
    the run is gone. Costs five queries, however many grants there are.
    """
    now = timezone.now()
    users = User.objects.in_bulk({grant.user_id for grant in grants})
    sessions = set(
        Session.objects.filter(
            session_key__in={grant.session_key for grant in grants if grant.session_key}, expire_date__gt=now
        ).values_list("session_key", flat=True)
    )
    token_ids = {grant.token_id for grant in grants if grant.token_id is not None}
    tokens = {token.pk: token for token in AccessToken.objects.filter(valid(), pk__in=token_ids)}
    projects = dict(Run.objects.filter(pk__in={grant.run_id for grant in grants}).values_list("pk", "project_id"))
    members = Membership.objects.filter(user_id__in=users, project_id__in=set(projects.values()))
    roles = {(user, project): role for user, project, role in members.values_list("user_id", "project_id", "role")}
    auth_hashes = {pk: user.get_session_auth_hash() for pk, user in users.items()}

    def decide(grant: Grant) -> Viewer | int:
        user = users.get(grant.user_id)
        if user is None or not user.is_active:
            return NOT_AUTHENTICATED
        if grant.session_key and grant.session_key not in sessions:
            return NOT_AUTHENTICATED
        if grant.auth_hash and not constant_time_compare(grant.auth_hash, auth_hashes[user.pk]):
            return NOT_AUTHENTICATED
        token = tokens.get(grant.token_id) if grant.token_id is not None else None
        if token is None and grant.token_id is not None:
            return NOT_AUTHENTICATED
        project_id = projects.get(grant.run_id)
        if project_id is None:
            return NO_SUCH_RUN
        role = roles.get((user.pk, project_id))
        if role is None:
            return NOT_ALLOWED
        if token is None:
            return Viewer(user_id=user.pk, name=display_name(user), role=role)
        return viewer_by_token(token, user, role, grant.run_id, project_id) or NOT_ALLOWED

    return {grant: decide(grant) for grant in grants}
