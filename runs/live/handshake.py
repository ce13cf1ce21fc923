"""The handshake of a run's socket: authentication by a ticket, a share token or the Authorization header.

Many handshakes arrive at the same moment, so they share queries: a token is looked up once per half second for all
clients that present it, and the guard checks all their permissions together.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from django.db import InterfaceError, OperationalError

from runs.access.grants import NOT_AUTHENTICATED, Grant
from runs.access.roles import Viewer
from runs.access.tickets import forget_expired_tickets, read_ticket, spend_ticket
from runs.access.tokens import BEARER_SCOPES, MARK, find_token
from runs.live.database_reads import look_at_outcome, writing
from runs.live.rights_watch import LONGEST_ANSWER_AGE_S, RightsWatch
from runs.live.socket_limits import address_of
from runs.models import AccessToken, TokenScope
from runs.outage.answers import noted_outage

logger = logging.getLogger(__name__)

SHARE_SCOPES = frozenset({TokenScope.SHARE})
MOST_KNOWN_TOKENS = 1_000
# If the database is busy for longer, the socket is closed at once, and the page reconnects with a new ticket.
LONGEST_REDEEMING_S = 2.0
FORGET_EVERY_S = 60.0


class TicketDelayed(Exception):
    """The database is unavailable or busy, so the ticket may be used up. The client retries with a new one."""


@dataclass(frozen=True, slots=True)
class KnownToken:
    """The ids of a token and its creator, and the time of the lookup."""

    token_id: int
    user_id: int
    asked_at: float


@dataclass(frozen=True, slots=True)
class Credential:
    """The credentials of a handshake: a ticket with its grant, a token with the scopes that are allowed here, or
    nothing.

    `holder` identifies the owner of a valid ticket, or a token that was valid before; empty if it is unknown.
    """

    address: str
    holder: str = ""
    ticket: str = ""
    grant: Grant | None = None
    token: str = ""
    scopes: Collection[str] = ()

    @property
    def source(self) -> str:
        """The key under which a failure is counted."""
        return self.holder or self.address


class Entrance:
    """Admits viewers of one event loop.

    A cached token only says who created it. Whether it is still valid is the guard's answer, at most half a second old.
    """

    def __init__(self, guard: RightsWatch, are_refused: Callable[[str], bool]) -> None:
        self._guard = guard
        self._are_refused = are_refused
        self._known: dict[tuple[str, Collection[str]], KnownToken] = {}
        self._asking: dict[tuple[str, Collection[str]], asyncio.Task[KnownToken | None]] = {}
        self._forgot_at = time.monotonic()
        self._forgetting: asyncio.Task[None] | None = None
        self._is_delayed = False

    def credential_of(self, scope: dict[str, Any], run_id: int) -> Credential:
        """Return the credentials of a handshake, without a query.

        `?token=` accepts a ticket or a share token. URLs end up in logs and histories, so a long-lived key with the
        right to command is not accepted there.
        """
        header = dict(scope.get("headers", [])).get(b"authorization", b"").decode("latin-1")
        if header:
            scheme, _, value = header.partition(" ")
            if scheme.lower() != "bearer":
                return Credential(address_of(scope))
            return self._token(scope, value.strip(), BEARER_SCOPES)
        for offered in scope.get("subprotocols", []):
            if offered.startswith("ticket."):
                return self._ticket(scope, offered.removeprefix("ticket."), run_id)
        value = query_of(scope).get("token", [""])[0]
        return self._token(scope, value, SHARE_SCOPES) if value.startswith(MARK) else self._ticket(scope, value, run_id)

    def _token(self, scope: dict[str, Any], value: str, scopes: Collection[str]) -> Credential:
        known = self._known.get((value, scopes))
        holder = "" if known is None else f"token:{known.token_id}"
        return Credential(address_of(scope), holder, token=value, scopes=scopes)

    def _ticket(self, scope: dict[str, Any], value: str, run_id: int) -> Credential:
        grant = read_ticket(value, run_id) if value else None
        if grant is None:
            return Credential(address_of(scope))
        holder = f"user:{grant.user_id}" if grant.token_id is None else f"token:{grant.token_id}"
        return Credential(address_of(scope), holder, ticket=value, grant=grant)

    async def enter(self, shown: Credential, run_id: int) -> tuple[Grant, Viewer] | int:
        """Return the grant and viewer of a handshake, or the close code that refuses it. Raises `TicketDelayed`."""
        if shown.grant is not None:
            grant = await self._redeemed(shown.ticket, shown.grant)
        else:
            grant = await self._by_token(shown, run_id) if shown.token else None
        if grant is None:
            return NOT_AUTHENTICATED
        viewer = await self._guard.viewer_of(grant)
        return viewer if isinstance(viewer, int) else (grant, viewer)

    async def _by_token(self, shown: Credential, run_id: int) -> Grant | None:
        asked = (shown.token, shown.scopes)
        known = self._known.get(asked)
        if known is None or time.monotonic() - known.asked_at > LONGEST_ANSWER_AGE_S:
            if asked not in self._asking:
                self._asking[asked] = asyncio.create_task(self._look_up(shown))
                self._asking[asked].add_done_callback(look_at_outcome)
            # Shielded: if one client leaves meanwhile, the others still get the answer.
            known = await asyncio.shield(self._asking[asked])
        return Grant(run_id, known.user_id, token_id=known.token_id) if known is not None else None

    async def _look_up(self, shown: Credential) -> KnownToken | None:
        asked, asked_at = (shown.token, shown.scopes), time.monotonic()

        def find() -> AccessToken | None:
            # Checked again in the thread: thousands of requests may have arrived before the first of them failed.
            return None if self._are_refused(shown.source) else find_token(*asked)

        try:
            # Not on the readers' threads: it records the use of the token once a minute.
            token = await writing(find)()
            if token is None:
                self._known.pop(asked, None)
                return None
            known = KnownToken(token.pk, token.created_by_id, asked_at)
            if len(self._known) >= MOST_KNOWN_TOKENS:
                self._known.clear()
            self._known[asked] = known
            return known
        finally:
            del self._asking[asked]

    async def _redeemed(self, ticket: str, grant: Grant) -> Grant | None:
        """Return the grant of a valid ticket, None if it was used before. Raises `TicketDelayed`."""
        try:
            async with asyncio.timeout(LONGEST_REDEEMING_S):
                unused = await writing(spend_ticket)(ticket)
        except (TimeoutError, OperationalError, InterfaceError) as error:
            # Only the first of many is logged as a warning.
            logger.log(
                logging.DEBUG if self._is_delayed else logging.WARNING,
                "viewers cannot connect, because their tickets cannot be redeemed (%r): check the database. Their "
                "browsers try again",
                error,
            )
            self._is_delayed = True
            raise TicketDelayed from error
        if self._is_delayed:
            logger.warning("viewers can connect again: their tickets can be redeemed")
        self._is_delayed = False
        if self._forgetting is None and time.monotonic() - self._forgot_at > FORGET_EVERY_S:
            self._forgetting = asyncio.create_task(self._forget_expired())
        return grant if unused else None

    async def _forget_expired(self) -> None:
        """Remove the rows of expired tickets in the background."""
        try:
            await writing(forget_expired_tickets)()
        except Exception as error:  # it is tried again a minute later
            if noted_outage(error) is None:
                logger.exception("expired tickets could not be removed")
        self._forgot_at = time.monotonic()
        self._forgetting = None


def query_of(scope: dict[str, Any]) -> dict[str, list[str]]:
    return parse_qs(scope.get("query_string", b"").decode("latin-1"))
