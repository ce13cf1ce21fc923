"""No request waits long for an unavailable database, neither the first one nor later ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from runs.outage.answers import unavailable
from runs.outage.database_watch import DatabaseWatch, database_watch

# A key of an ASGI scope: true if the request is to be answered without the database.
AWAY = "steersman.database_away"
LOOK_AFTER_S = 0.8
# How long a request waits for a lock or a connection before the answer is that the database is busy. Supervisors wait
# longer, because no person waits for them.
LONGEST_WAIT_S = 1.7

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Patience:
    """ASGI middleware: if a request takes long, it polls the database, and answers 503 if that is unavailable."""

    def __init__(self, application: Application, watch: DatabaseWatch = database_watch) -> None:
        self.application = application
        self._watch = watch
        # Requests that were answered although one of their threads still waits for the database.
        self._left_behind: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if self._watch.is_unavailable:
            await self.application({**scope, AWAY: True}, receive, send)
            return
        answer = _Answer(send)
        task = asyncio.ensure_future(self.application(scope, receive, answer.send))
        try:
            if not await self._waits_in_vain(task, answer):
                await task
                return
        except asyncio.CancelledError:
            task.cancel()
            raise
        self._left_behind.add(task)
        task.add_done_callback(self._forget)
        await self.application({**scope, AWAY: True}, _no_body(), send)

    async def _waits_in_vain(self, task: asyncio.Future[None], answer: _Answer) -> bool:
        """Return false once the answer has begun or is complete, true once the database is unavailable and the answer
        abandoned.
        """
        while not (await asyncio.wait({task}, timeout=LOOK_AFTER_S))[0]:
            if answer.has_begun:
                return False
            if not await self._watch.answers() and answer.abandon():
                return True
        return False

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._left_behind.discard(task)
        if not task.cancelled():
            task.exception()


class _Answer:
    """Forwards an answer, unless it is abandoned before it has begun."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self.has_begun = False
        self.is_abandoned = False

    async def send(self, message: dict[str, Any]) -> None:
        if not self.is_abandoned:
            self.has_begun = True
            await self._send(message)

    def abandon(self) -> bool:
        """Forward no more of the answer; return False if it has already begun."""
        self.is_abandoned = not self.has_begun
        return self.is_abandoned


def _no_body() -> Callable[[], Awaitable[dict[str, Any]]]:
    """Return a `receive` for a request without body whose client stays connected."""
    received = False

    async def receive() -> dict[str, Any]:
        nonlocal received
        if received:
            await asyncio.Event().wait()
        received = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


class AnswerWithoutDatabase(MiddlewareMixin):
    """Answers 503 if `Patience` set its key: before middleware that queries the database, after those for headers."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        return unavailable(request) if getattr(request, "scope", {}).get(AWAY) else None


def wait_briefly() -> None:
    """Limit the waits of this process's connections to `LONGEST_WAIT_S`. Call before the first one is opened."""
    database = connections.settings["default"]
    options = database.setdefault("OPTIONS", {})
    if database["ENGINE"].endswith("sqlite"):
        options["timeout"] = LONGEST_WAIT_S
    else:
        options["pool"] = {**options["pool"], "timeout": LONGEST_WAIT_S}
        options["connect_timeout"] = 2
        options["options"] = f"-c lock_timeout={LONGEST_WAIT_S}s"
