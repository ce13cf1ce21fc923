"""Answers one training host: from bytes to bytes, on whatever thread calls it, one call at a time."""

from __future__ import annotations

import logging
from dataclasses import replace

from runs.protocol.commands import InvalidCommand
from runs.recording.lifecycle import Lease
from runs.recording.record_side.session import Observer, RecordSession
from steersman.messages.ended import Ended
from steersman.messages.link import FromRecord
from steersman.messages.reports import Attach, Report, Stored
from steersman.wire.codec import BadMessage, decode, encode
from trainer.control.concluding import conclude_ended

logger = logging.getLogger(__name__)


class Desk:
    """The record side of one connection. Errors of the database pass through: call again with the same bytes."""

    def __init__(self, lease: Lease, observer: Observer) -> None:
        self.run_id = lease.run_id
        self._session = RecordSession(lease, conclude_ended, observer)
        # How often the host is to report, in seconds.
        self.report_every_s: float | None = None
        # Whether the last message makes commands deliverable.
        self.has_orders = False

    def answer(self, data: bytes) -> list[bytes]:
        """Return the answers to a message. Raises `BadMessage` if it is not valid."""
        message = decode(data)
        if not isinstance(message, Attach | Report | Ended):
            raise BadMessage("only the portal sends this kind of message")
        try:
            answers = self._session.answer(message)
        except InvalidCommand as error:
            raise BadMessage(f"asked: {error}") from error
        self.has_orders = isinstance(message, Attach)
        return self._encoded(answers)

    def add(self, report: Report) -> bool:
        """Store a report as part of the caller's transaction: see `RecordSession.add`."""
        return self._session.add(report)

    def added(self, report: Report, seconds: float) -> list[bytes] | None:
        """Return the answers to a report that was added and committed; None if `answer` has to be called."""
        self.has_orders = False
        try:
            return self._encoded(self._session.added(report, seconds))
        except Exception:  # any exception: it ends this connection, and no other one
            logger.debug("a stored report is answered again", exc_info=True)
            return None

    def forget(self) -> None:
        self._session.forget()

    @property
    def has_work(self) -> bool:
        """Whether `look` would do something besides looking for commands. Takes no time."""
        return self._session.has_work

    def look(self, for_commands: bool) -> list[bytes]:
        """Do the regular work; with `for_commands`, return the commands that wait."""
        return self._encoded(self._session.look(for_commands=for_commands))

    def _encoded(self, messages: list[FromRecord]) -> list[bytes]:
        return [
            encode(replace(each, report_every_s=self.report_every_s) if isinstance(each, Stored) else each)
            for each in messages
        ]
