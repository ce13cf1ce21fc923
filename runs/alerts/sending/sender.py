"""The process that sends messages, with a thread for each destination with a due message."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from uuid import UUID

from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from django.utils import timezone

from runs.alerts.sending import message, outbox, transport
from runs.alerts.sending.errors import NotSent
from steersman.marked_text import gettext_noop

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 0.3
RENEW_INTERVAL_S = 5.0
# Concurrent destinations. Those that failed last time get fewer threads, so that the others are not delayed.
MOST_AT_ONCE = 48
MOST_FAILING_AT_ONCE = 16
RECORD_AGAIN_S = 0.5
# How long a message in progress may take after the process was asked to end.
END_TIMEOUT_S = 10.0


@dataclass(slots=True)
class _Sending:
    """A destination that a thread sends to; `message` is set once the thread has claimed one."""

    is_failing: bool
    message: UUID | None = None
    thread: threading.Thread = field(init=False)


class _Outage:
    """Logs the first of several failures of the database, and the first success after them. Safe in any thread."""

    def __init__(self, failing: str, works: str) -> None:
        self._failing, self._works = failing, works
        self._lock = threading.Lock()
        self._is_on = False

    def note(self, error: Exception | None) -> None:
        with self._lock:
            was_on, self._is_on = self._is_on, error is not None
        if error is not None and not was_on:
            logger.warning(self._failing, type(error).__name__)
        elif error is None and was_on:
            logger.warning(self._works)


class Sender:
    """Sends due messages until it is asked to end."""

    def __init__(self) -> None:
        self._ending = threading.Event()
        self._sending: dict[int, _Sending] = {}
        self._renew_at = 0.0
        self._reading = _Outage(
            "the database is unavailable (%s): alert messages are sent later",
            "the database is back: alert messages are sent again",
        )
        # A database that is locked by another process can be read.
        self._claiming = _Outage(
            "the database takes no changes (%s): alert messages are sent later",
            "the database takes changes again: alert messages are sent again",
        )

    def stop(self) -> None:
        self._ending.set()

    def run(self) -> None:
        """Send due messages until `stop`, then wait a while for those in progress."""
        while not self._ending.wait(LOOK_INTERVAL_S):
            self.tick(time.monotonic())
        until = time.monotonic() + END_TIMEOUT_S
        for sending in list(self._sending.values()):
            sending.thread.join(max(0.0, until - time.monotonic()))

    def tick(self, now: float) -> None:
        """Start a thread for each destination with a due message, and renew the leases of messages in progress."""
        self._sending = {pk: each for pk, each in self._sending.items() if each.thread.is_alive()}
        try:
            if now >= self._renew_at:
                self._renew_at = now + RENEW_INTERVAL_S
                outbox.renew([each.message for each in self._sending.values() if each.message], timezone.now())
            for destination_id, is_failing in outbox.due(timezone.now()).items():
                if destination_id not in self._sending and self._has_room(is_failing):
                    self._start(destination_id, is_failing)
            self._reading.note(None)
        except (DatabaseError, InterfaceError) as error:
            self._reading.note(error)
            close_old_connections()

    def _has_room(self, is_failing: bool) -> bool:
        failing = sum(each.is_failing for each in self._sending.values())
        return failing < MOST_FAILING_AT_ONCE if is_failing else len(self._sending) - failing < MOST_AT_ONCE

    def _start(self, destination_id: int, is_failing: bool) -> None:
        sending = _Sending(is_failing)
        sending.thread = threading.Thread(
            target=self._send, args=(destination_id, sending), name=f"destination {destination_id}", daemon=True
        )
        self._sending[destination_id] = sending
        sending.thread.start()

    def _send(self, destination_id: int, sending: _Sending) -> None:
        try:
            claim = outbox.claim(destination_id, timezone.now())
            self._claiming.note(None)
            if claim is not None:
                sending.message = claim.message
                self._deliver(claim)
        except (DatabaseError, InterfaceError) as error:
            self._claiming.note(error)
        finally:
            connection.close()

    def _deliver(self, claim: outbox.Claim) -> None:
        error, is_final = "", False
        try:
            transport.send(claim.destination, message.build(claim.message, claim.destination, claim.deliveries))
        except NotSent as reason:
            error, is_final = str(reason), reason.is_final
            logger.warning("destination %d: %s", claim.destination.pk, error)
        except (DatabaseError, InterfaceError) as reason:
            error = f"The alert could not be read: {type(reason).__name__}."
        except Exception:
            error = gettext_noop("The message could not be created.")
            logger.exception("destination %d: %s", claim.destination.pk, error)
        # A message whose success is not recorded would be sent again.
        while True:
            try:
                if error:
                    outbox.record_failure(claim, error, is_final, timezone.now())
                else:
                    outbox.record_sent(claim)
                return
            except (DatabaseError, InterfaceError):
                connection.close()
                if self._ending.wait(RECORD_AGAIN_S):
                    return
