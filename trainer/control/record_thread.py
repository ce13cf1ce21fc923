"""Runs the record side of one attempt on its own thread, for a host side in the same process. Never imports torch.

The thread has its own database connections. A slow database does not block the host side.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from django.db import Error as DatabaseError
from django.db import connection

from runs.recording import announcer
from runs.recording.feed import announce_heartbeat
from runs.recording.lifecycle import HEARTBEAT_INTERVAL_S, Lease
from runs.recording.record_side.session import Observer, RecordSession
from steersman.messages.link import FromHost, FromRecord
from trainer.control.concluding import conclude_ended
from trainer.control.database_state import DatabaseState

logger = logging.getLogger(__name__)

# The pause before a retry if the database is unavailable; the journal keeps all records until then.
DATABASE_PAUSE_S = 0.5
# A host side makes a pass every 10 ms. If it makes none for this long, it may be suspended, and may have lost the run.
SUSPENDED_AFTER_S = 3.0


class RecordThread:
    """A `steersman.messages.link.Link`. `arrived` is called, on this thread, when there is something to receive."""

    def __init__(self, lease: Lease, observer: Observer, arrived: Callable[[], None]) -> None:
        self._lease = lease
        self._session = RecordSession(lease, conclude_ended, observer)
        self._arrived = arrived
        self._database = DatabaseState(lease.run_id)
        self._inbox: deque[FromHost] = deque()
        self._outbox: deque[FromRecord] = deque()
        self._came = threading.Event()
        self._stopped = threading.Event()
        self._command_waits = True
        self._orders_taken_at = self._stored_at = 0.0
        self._received_at = time.monotonic()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="record side", daemon=True)
        self._life = threading.Thread(target=self._tell_of_life, name="life", daemon=True)

    def start(self) -> None:
        announcer.current().listen(f"owner.{self._lease.run_id}", self._heard_command)
        self._thread.start()
        self._life.start()

    def send(self, message: FromHost) -> None:
        self._inbox.append(message)
        self._came.set()

    def receive(self) -> list[FromRecord]:
        """Return the messages since the last call. Raises the error that ended the thread."""
        self._received_at = time.monotonic()
        if self._fault is not None:
            raise self._fault
        found = []
        while self._outbox:
            found.append(self._outbox.popleft())
        return found

    def stop(self, timeout_s: float) -> bool:
        """End the thread; return whether it has ended within `timeout_s`: the database may block it for longer."""
        self._stopped.set()
        self._came.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _heard_command(self, message: dict[str, Any]) -> None:
        self._command_waits = True
        self._came.set()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._came.wait(HEARTBEAT_INTERVAL_S / 4)
                self._came.clear()
                self._work()
        except BaseException as error:  # the host side decides how the training continues
            self._fault = error
            self._arrived()
        finally:
            connection.close()

    def _work(self) -> None:
        """Answer messages and deliver commands. If the database is unavailable, messages wait; none is lost."""
        try:
            self._database.look()
            while self._inbox and not self._stopped.is_set():
                self._answer(self._inbox[0])
                self._inbox.popleft()
            self._take_orders()
            self._database.note_available()
        except (DatabaseError, OSError) as error:
            self._database.note_unavailable(error, "the journal keeps what is logged")
            # Reconnect after a broken connection.
            connection.close()
            self._stopped.wait(DATABASE_PAUSE_S)
            self._came.set()

    def _answer(self, message: FromHost) -> None:
        self._put(self._session.answer(message))
        self._stored_at = time.monotonic()

    def _take_orders(self) -> None:
        now = time.monotonic()
        if self._command_waits or now - self._orders_taken_at >= HEARTBEAT_INTERVAL_S:
            self._command_waits = False
            try:
                self._put(self._session.look(for_commands=True))
            except BaseException:
                self._command_waits = True
                raise
            self._orders_taken_at = now
        else:
            self._put(self._session.look(for_commands=False))

    def _put(self, messages: list[FromRecord]) -> None:
        if messages:
            self._outbox.extend(messages)
            self._arrived()

    def _tell_of_life(self) -> None:
        """Send heartbeats on the channel layer while the database is unavailable."""
        waiting_since = time.monotonic()
        while not self._stopped.wait(HEARTBEAT_INTERVAL_S):
            now = time.monotonic()
            lives = now - self._received_at < SUSPENDED_AFTER_S and now - waiting_since < SUSPENDED_AFTER_S
            if lives and self._thread.is_alive() and now - self._stored_at > 2 * HEARTBEAT_INTERVAL_S:
                announce_heartbeat(self._lease.run_id, self._lease.number)
            waiting_since = now
