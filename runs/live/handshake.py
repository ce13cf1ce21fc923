"""The handshake of a run's socket: who connects, by a ticket, a share token or the Authorization header.

Many come in the same moment, so nothing is asked for each alone: a token is looked up once in half a second for all who
present it, and whether a right holds now is asked by the guard for all together.
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
from runs.models import AccessToken, TokenScope

logger = logging.getLogger(__name__)

SHARE_SCOPES = frozenset({TokenScope.SHARE})
MOST_KNOWN_TOKENS = 1_000
# Of a database that is busy for longer the page hears at once, and comes again with a new ticket.
LONGEST_REDEEMING_S = 2.0
FORGET_EVERY_S = 60.0


class TicketDelayed(Exception):
    """The database is away or busy: nobody knows whether the ticket is used up. Come again with a new one."""


@dataclass(frozen=True, slots=True)
class KnownToken:
    """The ids of a token and its creator, and when they were looked up."""

    token_id: int
    user_id: int
    asked_at: float


class Entrance:
    """Lets viewers of one event loop in.

    What it remembers of a token says only whose it is. Whether it still holds is the guard's answer, half a second old
    at most.
    """

    def __init__(self, guard: RightsWatch, are_refused: Callable[[dict[str, Any]], bool]) -> None:
        self._guard = guard
        self._are_refused = are_refused
        self._known: dict[tuple[str, Collection[str]], KnownToken] = {}
        self._asking: dict[tuple[str, Collection[str]], asyncio.Task[KnownToken | None]] = {}
        self._forgot_at = time.monotonic()
        self._forgetting: asyncio.Task[None] | None = None
        self._is_delayed = False

    async def enter(self, scope: dict[str, Any], run_id: int) -> tuple[Grant, Viewer] | int:
        """Return the grant and viewer of a handshake, or the close code that refuses it. Raises `TicketDelayed`.

        `?token=` takes a ticket or a share token: addresses end up in logs and histories, so no key that lives long
        and commands may stand in one.
        """
        grant = await self._grant(scope, run_id)
        if grant is None:
            return NOT_AUTHENTICATED
        viewer = await self._guard.viewer_of(grant)
        return viewer if isinstance(viewer, int) else (grant, viewer)

    async def _grant(self, scope: dict[str, Any], run_id: int) -> Grant | None:
        header = dict(scope.get("headers", [])).get(b"authorization", b"").decode("latin-1")
        if header:
            scheme, _, value = header.partition(" ")
            return (
                await self._by_token(scope, value.strip(), run_id, BEARER_SCOPES)
                if scheme.lower() == "bearer"
                else None
            )
        for offered in scope.get("subprotocols", []):
            if offered.startswith("ticket."):
                return await self._by_ticket(offered.removeprefix("ticket."), run_id)
        value = query_of(scope).get("token", [""])[0]
        if value.startswith(MARK):
            return await self._by_token(scope, value, run_id, SHARE_SCOPES)
        return await self._by_ticket(value, run_id) if value else None

    async def _by_token(self, scope: dict[str, Any], value: str, run_id: int, scopes: Collection[str]) -> Grant | None:
        asked = (value, scopes)
        known = self._known.get(asked)
        if known is None or time.monotonic() - known.asked_at > LONGEST_ANSWER_AGE_S:
            if asked not in self._asking:
                self._asking[asked] = asyncio.create_task(self._look_up(scope, value, scopes))
                self._asking[asked].add_done_callback(look_at_outcome)
            # Shielded: one who leaves meanwhile must not take the answer from the others.
            known = await asyncio.shield(self._asking[asked])
        return Grant(run_id, known.user_id, token_id=known.token_id) if known is not None else None

    async def _look_up(self, scope: dict[str, Any], value: str, scopes: Collection[str]) -> KnownToken | None:
        asked_at = time.monotonic()

        def find() -> AccessToken | None:
            # Asked again in the thread: thousands may have come from there before the first of them failed.
            return None if self._are_refused(scope) else find_token(value, scopes)

        try:
            # Apart from the readers: it notes the use of the token, once a minute.
            token = await writing(find)()
            if token is None:
                return None
            known = KnownToken(token.pk, token.created_by_id, asked_at)
            if len(self._known) >= MOST_KNOWN_TOKENS:
                self._known.clear()
            self._known[value, scopes] = known
            return known
        finally:
            del self._asking[value, scopes]

    async def _by_ticket(self, value: str, run_id: int) -> Grant | None:
        grant = read_ticket(value, run_id)
        if grant is None:
            return None
        try:
            async with asyncio.timeout(LONGEST_REDEEMING_S):
                unused = await writing(spend_ticket)(value)
        except (TimeoutError, OperationalError, InterfaceError) as error:
            # Of a crowd one is told of in the log.
            logger.log(logging.DEBUG if self._is_delayed else logging.WARNING, "tickets cannot be redeemed: %r", error)
            self._is_delayed = True
            raise TicketDelayed from error
        self._is_delayed = False
        if self._forgetting is None and time.monotonic() - self._forgot_at > FORGET_EVERY_S:
            self._forgetting = asyncio.create_task(self._forget_expired())
        return grant if unused else None

    async def _forget_expired(self) -> None:
        """Remove what is kept of tickets that have expired; nobody waits for it."""
        try:
            await writing(forget_expired_tickets)()
        except Exception:  # a minute later is early enough
            logger.exception("expired tickets could not be removed")
        self._forgot_at = time.monotonic()
        self._forgetting = None


def query_of(scope: dict[str, Any]) -> dict[str, list[str]]:
    return parse_qs(scope.get("query_string", b"").decode("latin-1"))
