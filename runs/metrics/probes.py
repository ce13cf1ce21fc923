"""`/healthz` and `/readyz`: whether this process is alive, and whether it can serve. For proxies and container engines.

They are answered before Django handles the request: for any Host, scheme or login, and while the database hangs.
Frequent requests cost nothing: an answer is valid for a second, and only one check runs at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import msgspec
from channels.layers import get_channel_layer
from django.db import close_old_connections, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from runs.outage.shared_question import SharedQuestion

logger = logging.getLogger(__name__)

LOOK_TIMEOUT_S = 1.5
HOLDS_S = 1.0
READY_GROUP = "steersman.readyz"

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Readiness(msgspec.Struct, frozen=True):
    """The answer of `/readyz`: for each part whether it works."""

    database: bool
    migrations: bool
    channel_layer: bool

    @property
    def ready(self) -> bool:
        return self.database and self.migrations and self.channel_layer

    def as_json(self) -> bytes:
        shown = {name: "ok" if getattr(self, name) else "failed" for name in self.__struct_fields__}
        return msgspec.json.encode({"ready": self.ready, **shown})


class Probes:
    """ASGI middleware: answers the two addresses, and leaves all others to the application."""

    def __init__(self, application: Application, prefix: str = "") -> None:
        self.application = application
        self._health, self._ready = f"{prefix}/healthz", f"{prefix}/readyz"
        self._found: Readiness | None = None
        self._found_at = float("-inf")
        self._looking: asyncio.Task[Readiness] | None = None
        self._database = SharedQuestion(_ask_database, "readyz")
        # The parts whose failure was logged, and that have not recovered.
        self._failing: set[str] = set()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] not in (self._health, self._ready):
            await self.application(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, b'{"error":"Send GET or HEAD."}', [(b"allow", b"GET, HEAD")])
        elif scope["path"] == self._health:
            await _answer(send, 200, b'{"alive":true}')
        else:
            found = await self._readiness()
            await _answer(send, 200 if found.ready else 503, found.as_json())

    async def _readiness(self) -> Readiness:
        if self._found is not None and time.monotonic() - self._found_at < HOLDS_S:
            return self._found
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        # If one client disconnects, the others still get the answer.
        return await asyncio.shield(self._looking)

    async def _look(self) -> Readiness:
        (database, migrations), layer = await asyncio.gather(self._look_at_database(), self._look_at_layer())
        self._found, self._found_at = Readiness(database, migrations, layer), time.monotonic()
        return self._found

    async def _look_at_database(self) -> tuple[bool, bool]:
        """Return whether the database answers, and whether all migrations are applied."""
        try:
            found = await self._database.answer(LOOK_TIMEOUT_S)
        except Exception as error:  # any exception: the database is not ready
            self._note("the database", error)
            return False, False
        self._note("the database")
        return found

    async def _look_at_layer(self) -> bool:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                await get_channel_layer().group_send(READY_GROUP, {"type": "ready"})
        except Exception as error:  # any exception: the layer is unavailable
            self._note("the channel layer", error)
            return False
        self._note("the channel layer")
        return True

    def _note(self, part: str, error: Exception | None = None) -> None:
        """Log the first of several failures of a part, and its recovery."""
        if error is not None and part not in self._failing:
            logger.warning("/readyz: %s does not answer (%s)", part, str(error) or type(error).__name__)
            self._failing.add(part)
        elif error is None and part in self._failing:
            logger.warning("/readyz: %s is back", part)
            self._failing.remove(part)


def _ask_database() -> tuple[bool, bool]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return True, not (needed_migrations() - set(MigrationRecorder(connection).applied_migrations()))
    finally:
        connection.close()
        close_old_connections()


@cache
def needed_migrations() -> frozenset[tuple[str, str]]:
    """Return the migrations of this version of the code, without a query."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


async def _answer(send: Any, status: int, body: bytes, more: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
