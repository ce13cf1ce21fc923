"""The handshake of a run's socket: who connects, by a ticket, a share token or the Authorization header."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from runs.access.grants import NO_SUCH_RUN, NOT_AUTHENTICATED, Grant, check_grants, grant_of
from runs.access.roles import Viewer
from runs.access.tickets import redeem_ticket
from runs.access.tokens import MARK, find_token
from runs.models import Run, TokenScope


def authenticate(scope: dict[str, Any], run_id: int) -> tuple[Grant, Viewer] | int:
    """Return the grant and viewer of a handshake, or the close code that refuses it.

    `?token=` takes a ticket or a share token: addresses end up in logs and histories, so no key that lives long and
    commands may stand in one.
    """
    grant = _grant(scope, run_id)
    if grant is None:
        return NOT_AUTHENTICATED
    if not Run.objects.filter(pk=run_id).exists():
        return NO_SUCH_RUN
    viewer = check_grants([grant])[grant]
    return viewer if isinstance(viewer, int) else (grant, viewer)


def query_of(scope: dict[str, Any]) -> dict[str, list[str]]:
    return parse_qs(scope.get("query_string", b"").decode("latin-1"))


def _grant(scope: dict[str, Any], run_id: int) -> Grant | None:
    header = dict(scope.get("headers", [])).get(b"authorization", b"").decode("latin-1")
    if header:
        scheme, _, value = header.partition(" ")
        return _by_token(value.strip(), run_id) if scheme.lower() == "bearer" else None
    for offered in scope.get("subprotocols", []):
        if offered.startswith("ticket."):
            return redeem_ticket(offered.removeprefix("ticket."), run_id)
    value = query_of(scope).get("token", [""])[0]
    if value.startswith(MARK):
        return _by_token(value, run_id, TokenScope.SHARE)
    return redeem_ticket(value, run_id) if value else None


def _by_token(value: str, run_id: int, *scopes: str) -> Grant | None:
    token = find_token(value, scopes) if scopes else find_token(value)
    return grant_of(token.created_by, run_id, token=token) if token is not None else None
