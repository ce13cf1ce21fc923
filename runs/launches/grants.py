"""The permission of a training host's connection, checked in the handshake and again while it is open."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from runs.access.grants import NO_SUCH_RUN, NOT_ALLOWED, NOT_AUTHENTICATED
from runs.access.roles import COMMANDING_ROLES
from runs.access.tokens import valid
from runs.models import AccessToken, Attempt, Membership, RemoteLaunch, TokenScope
from runs.recording.lifecycle import Lease


@dataclass(frozen=True, slots=True)
class HostGrant:
    """The permission to report the attempt `number` of a run, by a token."""

    token_id: int
    run_id: int
    number: int


@dataclass(frozen=True, slots=True)
class Reported:
    """An attempt that may be reported by a token of `user_id`. `has_reports`: whether anything is stored of it."""

    lease: Lease
    user_id: int
    has_reports: bool


def check_host_grants(grants: Collection[HostGrant]) -> dict[HostGrant, Reported | int]:
    """Return for each grant the attempt that it allows to report now, or the close code that ends it.

    4401: token revoked or expired, or its creator is deactivated. 4403: the creator is no operator or owner, or the run
    was opened by somebody else. 4404: no such run or attempt. Costs four queries, however many grants there are.
    """
    # Columns instead of objects, because this is read for every connected host twice per second.
    run_ids = {grant.run_id for grant in grants}
    tokens = AccessToken.objects.filter(valid(), scope=TokenScope.TRAIN, pk__in={grant.token_id for grant in grants})
    # For each token and for each run, who made it, and in which project.
    token_of = {
        pk: (user_id, project_id) for pk, user_id, project_id in tokens.values_list("pk", "created_by_id", "project_id")
    }
    launches = RemoteLaunch.objects.filter(run_id__in=run_ids)
    launch_of = {
        run_id: (user_id, project_id)
        for run_id, user_id, project_id in launches.values_list("run_id", "created_by_id", "project_id")
    }
    members = Membership.objects.filter(user_id__in={user_id for user_id, _ in token_of.values()})
    operators = set(members.filter(role__in=COMMANDING_ROLES).values_list("user_id", "project_id"))
    attempts = Attempt.objects.filter(run_id__in=run_ids, number__in={grant.number for grant in grants})
    attempt_of = {
        (run_id, number): (pk, reports)
        for run_id, number, pk, reports in attempts.values_list("run_id", "number", "pk", "reports")
    }

    def decide(grant: HostGrant) -> Reported | int:
        token = token_of.get(grant.token_id)
        if token is None:
            return NOT_AUTHENTICATED
        launch = launch_of.get(grant.run_id)
        attempt = attempt_of.get((grant.run_id, grant.number))
        if launch is None or attempt is None:
            return NO_SUCH_RUN
        if launch != token or token not in operators:
            return NOT_ALLOWED
        attempt_id, reports = attempt
        lease = Lease(run_id=grant.run_id, attempt_id=attempt_id, number=grant.number)
        return Reported(lease, token[0], has_reports=reports > 0)

    return {grant: decide(grant) for grant in grants}
