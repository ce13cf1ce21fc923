"""The ASGI application of `/ws/hosts/`. The event loop only passes bytes: threads decode them and use the database.

The messages and close codes are described in `docs/protocol.md`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, InterfaceError

from runs.access.grants import NO_SUCH_RUN
from runs.live.database_reads import storing
from runs.outage.database_file import database_path
from runs.protocol.messages import TOO_MANY
from runs.recording import announcer, feed
from runs.recording.lifecycle import HEARTBEAT_INTERVAL_S
from steersman.files.private import FileIdentity, identity_of
from steersman.messages.errors import one_line
from steersman.wire.codec import BadMessage
from trainer.remote_hosts.admission import PROTOCOL, REASONS, Admitted, admit
from trainer.remote_hosts.batches import Batches
from trainer.remote_hosts.close_codes import FAILED, MALFORMED, TRY_AGAIN, Refused
from trainer.remote_hosts.desk import Desk
from trainer.remote_hosts.detector_threads import DetectorThreads
from trainer.remote_hosts.rounds import Rounds

logger = logging.getLogger(__name__)

# Delay before the next attempt if the database is unavailable. The host keeps what it has to report.
DATABASE_PAUSE_S = 0.5
# How often a host reports if nobody watches its run.
UNWATCHED_REPORT_S = 1.0
# A WebSocket takes no longer reason than this (RFC 6455, section 5.5).
LONGEST_REASON_BYTES = 123
# What a server raises if the connection is closed, as ASGI asks.
CLOSED = OSError

Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]
# Calls the database on a thread, and returns what is to be sent.
Answering = Callable[[], Awaitable[list[bytes]]]
UNAVAILABLE = (DatabaseError, InterfaceError, OSError)


class DatabaseReplaced(Exception):
    """The database file was replaced by another one, which this process has not opened."""


class HostSockets:
    """Serves the connections of all training hosts in one event loop."""

    def __init__(self) -> None:
        self.rounds = Rounds()
        self.batches = Batches()
        self.detectors = DetectorThreads()
        self.places: Counter[int] = Counter()
        self._database = database_path()
        self._opened = self._database_file()
        self._unavailable_since: float | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await HostSocket(self, scope, receive, send).serve()

    def report_every_s(self, run_id: int) -> float:
        return settings.STEERSMAN_PUSH_MS / 1000 if run_id in feed.watched else UNWATCHED_REPORT_S

    def take_place(self, user_id: int) -> None:
        """Count one more connection of a user. Raises `Refused` if there are too many."""
        if self.places[user_id] >= settings.STEERSMAN_HOSTS_PER_USER:
            count = self.places[user_id]
            text = f"You have {count} connections of training hosts, and STEERSMAN_HOSTS_PER_USER allows no more."
            raise Refused(TOO_MANY, text)
        self.places[user_id] += 1

    def _database_file(self) -> FileIdentity | None:
        return identity_of(self._database) if self._database is not None else None

    def check_database(self) -> None:
        """End this process if the database file was replaced: its threads have the old one open.

        Raises `DatabaseReplaced`, and `OSError` if there is no file now.
        """
        found = self._database_file()
        if found is None and self._opened is not None:
            raise FileNotFoundError("the database file was deleted or moved")
        if found != self._opened:
            logger.error("The database file was replaced: this process ends, so that the next one opens the new file.")
            os.kill(os.getpid(), signal.SIGTERM)
            raise DatabaseReplaced

    def note_unavailable(self, error: Exception) -> None:
        if self._unavailable_since is None:
            self._unavailable_since = time.monotonic()
            logger.warning(
                "the database is unavailable, so nothing can be stored now (%s): training hosts keep what they log",
                one_line(error),
            )

    def note_available(self) -> None:
        if self._unavailable_since is not None:
            unavailable_s, self._unavailable_since = time.monotonic() - self._unavailable_since, None
            logger.warning("the database is back: nothing could be stored for %.1f s", unavailable_s)


class HostSocket:
    """One connection: admits its host, answers its messages in their order, and sends commands as they come."""

    def __init__(
        self,
        shared: HostSockets,
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
        report_at_least_s: float = 0.0,
    ) -> None:
        """`report_at_least_s`: the host is asked for no more than one report in so many seconds."""
        self._shared, self._scope, self._receive, self._send = shared, scope, receive, send
        self._report_at_least_s = report_at_least_s
        # Set when the host has been admitted.
        self.admitted = asyncio.Event()
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._is_over = False
        # Since when a thread works for this host, or waits for the database.
        self._busy_since: float | None = None

    async def serve(self) -> None:
        if (await self._receive())["type"] != "websocket.connect":
            return
        offered = self._scope.get("subprotocols", [])
        # Accepted first: otherwise the host would get 403, without the reason.
        await self._send({"type": "websocket.accept", "subprotocol": PROTOCOL if PROTOCOL in offered else None})
        try:
            admitted = await storing(admit)(self._scope)
            self._shared.take_place(admitted.reported.user_id)
        except Refused as refused:
            await self.end(refused.code, str(refused))
            return
        except UNAVAILABLE as error:
            self._shared.note_unavailable(error)
            await self.end(TRY_AGAIN, "The database is unavailable: connect again.")
            return
        self.admitted.set()
        try:
            await self._serve(admitted)
        finally:
            self._is_over = True
            self._shared.places[admitted.reported.user_id] -= 1

    async def end(self, code: int, reason: str) -> None:
        """Close the connection and handle no more of its messages."""
        if self._is_over:
            return
        self._is_over = True
        kept = reason.encode()[:LONGEST_REASON_BYTES].decode(errors="ignore")
        with suppress(CLOSED):
            await self._send({"type": "websocket.close", "code": code, "reason": kept})

    def look_for_commands(self) -> None:
        self._wake.set()

    async def _serve(self, admitted: Admitted) -> None:
        lease = admitted.reported.lease
        loop = asyncio.get_running_loop()

        def heard(message: dict[str, Any]) -> None:
            if message.get("type") == feed.JOINED_MESSAGE:
                feed.watched.join(lease.run_id)
            else:
                loop.call_soon_threadsafe(self._wake.set)

        commands = announcer.current().listen(f"owner.{lease.run_id}", heard)
        desk = Desk(lease, self._shared.detectors.take(admitted.reported))
        tasks = [asyncio.create_task(self._look_regularly(desk))]
        tasks.append(asyncio.create_task(self._tell_of_life(lease.run_id, lease.number)))
        self._shared.rounds.add(self, admitted.grant)
        try:
            while (message := await self._receive())["type"] == "websocket.receive":
                desk.report_every_s = max(self._report_at_least_s, self._shared.report_every_s(lease.run_id))
                await self._guarded(self._answer(desk, message.get("bytes")))
        finally:
            self._is_over = True
            commands.cancel()
            for task in tasks:
                task.cancel()
            self._shared.rounds.remove(self)
            self._shared.detectors.give_back(lease)

    async def _answer(self, desk: Desk, data: bytes | None) -> None:
        if data is None:
            raise BadMessage("send binary frames")
        has_time = desk.report_every_s is not None and desk.report_every_s >= UNWATCHED_REPORT_S
        await self._work(partial(self._shared.batches.answer, desk, data, has_time=has_time))
        if desk.has_orders:
            self._wake.set()

    async def _look_regularly(self, desk: Desk) -> None:
        while not self._is_over:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_INTERVAL_S):
                    await self._wake.wait()
            is_woken = self._wake.is_set()
            self._wake.clear()
            # For most hosts and seconds there is nothing to do. While a thread works for this host, only it knows.
            if is_woken or self._turn.locked() or desk.has_work:
                await self._guarded(self._work(partial(self._look, desk, is_woken)))

    async def _look(self, desk: Desk, for_commands: bool) -> list[bytes]:
        # A call on a thread for each host and second would cost more than its usual result: nothing.
        return await storing(desk.look)(for_commands) if for_commands or desk.has_work else []

    async def _tell_of_life(self, run_id: int, number: int) -> None:
        """Send heartbeats of a connected host over the channel layer while the database takes none."""
        while not self._is_over:
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
            busy_since = self._busy_since
            if busy_since is not None and time.monotonic() - busy_since > 2 * HEARTBEAT_INTERVAL_S:
                feed.announce_heartbeat(run_id, number)

    async def _guarded(self, work: Any) -> None:
        """Await `work`; close the connection if it fails."""
        try:
            await work
        except BadMessage as error:
            await self.end(MALFORMED, f"A message is not valid: {error}.")
        except ObjectDoesNotExist:
            await self.end(NO_SUCH_RUN, REASONS[NO_SUCH_RUN])
        except DatabaseReplaced:
            self._is_over = True
        except CLOSED as error:
            logger.debug("a training host has disconnected: %s", error)
        except Exception:
            logger.exception("a message of a training host could not be handled")
            await self.end(FAILED, "The portal failed to handle a message. The error is in its log.")

    async def _work(self, answer: Answering) -> None:
        """Await `answer`, after what was begun before, and send what it returns.

        If the database is unavailable, it is called again until it is back.
        """
        async with self._turn:
            self._busy_since = time.monotonic()
            try:
                answers = await self._answers(answer)
            finally:
                self._busy_since = None
            for each in answers:
                await self._send({"type": "websocket.send", "bytes": each})

    async def _answers(self, answer: Answering) -> list[bytes]:
        while not self._is_over:
            try:
                self._shared.check_database()
                answers = await answer()
            except UNAVAILABLE as error:
                self._shared.note_unavailable(error)
                await asyncio.sleep(DATABASE_PAUSE_S)
            else:
                self._shared.note_available()
                return answers
        return []
