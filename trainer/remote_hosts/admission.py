"""The handshake of a training host: token, version, run and attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from runs.access.grants import NO_SUCH_RUN, NOT_ALLOWED, NOT_AUTHENTICATED
from runs.access.guesses import TooManyGuesses, lookups
from runs.launches.grants import HostGrant, Reported, check_host_grants
from runs.live.socket_limits import address_of
from runs.models import LARGEST_ID, TokenScope
from runs.protocol.messages import TOO_MANY
from steersman import __version__
from trainer.remote_hosts.close_codes import OTHER_VERSION, Refused

PROTOCOL = "steersman.host.v1"
VERSION_HEADER = b"steersman-version"
REASONS = {
    NOT_AUTHENTICATED: "This token is unknown, expired or revoked: create a new one.",
    NOT_ALLOWED: "This token may not report this run: the person who opened the run must create the token.",
    NO_SUCH_RUN: "There is no such run or attempt: open one with POST /api/runs/.",
}


@dataclass(frozen=True, slots=True)
class Admitted:
    grant: HostGrant
    reported: Reported


def admit(scope: Mapping[str, Any]) -> Admitted:
    """Return what a handshake may report. Raises `Refused`. Queries the database."""
    headers = dict(scope.get("headers", []))
    if PROTOCOL not in scope.get("subprotocols", []):
        raise Refused(
            OTHER_VERSION, f"This portal uses the WebSocket subprotocol {PROTOCOL}: request that subprotocol."
        )
    check_version(headers.get(VERSION_HEADER, b"").decode("latin-1"))
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    run_id, number = (_whole(query.get(name, [""])[0]) for name in ("run", "attempt"))
    grant = HostGrant(_token_id(headers, address_of(dict(scope))), run_id, number)
    found = check_host_grants([grant])[grant]
    if isinstance(found, int):
        raise Refused(found, REASONS[found])
    return Admitted(grant, found)


def check_version(theirs: str) -> None:
    """Raise `Refused` if a host has another version than this portal. The third number may differ."""
    if not theirs:
        raise Refused(OTHER_VERSION, "Send the version of the package steersman in the header Steersman-Version.")
    if theirs.split(".")[:2] != __version__.split(".")[:2]:
        text = f"This portal has version {__version__}, but the host has {theirs[:20]}: install {__version__} there."
        raise Refused(OTHER_VERSION, text)


def _token_id(headers: Mapping[bytes, bytes], address: str) -> int:
    scheme, _, value = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(NOT_AUTHENTICATED, "Send a token with the scope train in the header Authorization: Bearer.")
    try:
        found = lookups.find(value.strip(), TokenScope.values, address)
    except TooManyGuesses as error:
        raise Refused(TOO_MANY, "Too many unknown tokens came from your address: try again in a minute.") from error
    if found is None:
        raise Refused(NOT_AUTHENTICATED, REASONS[NOT_AUTHENTICATED])
    if found.scope != TokenScope.TRAIN:
        raise Refused(NOT_ALLOWED, f"This token has the scope {found.scope}: create one with the scope train.")
    return found.pk


def _whole(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    if not 0 < number <= LARGEST_ID:
        raise Refused(NO_SUCH_RUN, "Name the run and its attempt in the address: /ws/hosts/?run=7&attempt=1.")
    return number
