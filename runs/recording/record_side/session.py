"""Answers the messages of one host side: stores its reports, sends commands, records the end of its attempt.

Every call may be repeated after a database error: committed reports are not stored a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from django.db import transaction

from runs.protocol.events import LogLine, LogWritten
from runs.recording import feed
from runs.recording.database_errors import is_refusal
from runs.recording.lifecycle import Fenced, Lease, renew_lease
from runs.recording.record_side import continuing
from runs.recording.record_side.console_bound import ConsoleBound
from runs.recording.record_side.continuing import NotContinued, Superseded
from runs.recording.record_side.folding import Folding
from runs.recording.record_side.orders import take_orders
from runs.recording.record_side.store import RecordSide
from steersman.messages import ended
from steersman.messages.ended import Concluded, Ended
from steersman.messages.link import FromHost, FromRecord
from steersman.messages.orders import Post
from steersman.messages.reports import Attach, Attached, Line, Report, Stored
from steersman.records.point_blocks import PointBlock

# Records the end of an attempt, once.
Conclude = Callable[[Lease, Ended], Concluded]


class Observer(Protocol):
    """Receives each report after it was stored: the detectors of alerts."""

    def see(self, report: Report, step: int, stalled: bool) -> None: ...
    def take_lines(self) -> list[Line]: ...
    def finish(self) -> None: ...


class RecordSession:
    """The record side of one attempt: answers the messages of its host side."""

    def __init__(self, lease: Lease, conclude: Conclude, observer: Observer) -> None:
        self._lease = lease
        self._side = RecordSide(lease)
        self._conclude = conclude
        self._observer = observer
        self._folding = Folding(lease.run_id)
        self._console = ConsoleBound(lease.run_id)
        self._attached: Attached | None = None
        # The commands that the training has, and those on their way to it.
        self._posted: set[str] = set()
        self._handed: set[str] = set()
        self._is_overtaken = False
        self._seen_report = 0
        self._lines: list[Line] = []

    def answer(self, message: FromHost) -> list[FromRecord]:
        """Handle a message, and return the answers in order.

        Raises database errors: call it again with the same message.
        """
        match message:
            case Attach():
                return self._attach(message)
            case Report():
                return self._report(message)
            case Ended():
                return self._end(message)

    def add(self, report: Report) -> bool:
        """Store a usual report as part of the caller's transaction; False: nothing is stored, and `answer` decides.

        Call `added` after the commit, or `forget` if it failed. Raises errors of a database that is unavailable.
        """
        if self._attached is None or self._is_overtaken or report.session != self._attached.session or report.asked:
            return False
        try:
            self._side.add(report)
        except Exception as error:
            self.forget()
            if isinstance(error, (Fenced, NotContinued)) or is_refusal(error):
                return False
            raise
        return True

    def added(self, report: Report, seconds: float) -> list[FromRecord]:
        """Return the answers to a report that was added and committed; its transaction took `seconds`."""
        self._side.note(report, seconds)
        self._note(report)
        return [Stored(report.number, report.end, session=report.session, answers=report.number)]

    def forget(self) -> None:
        """Forget what an added report left here, because its transaction was rolled back."""
        self._side.forget()

    @property
    def has_work(self) -> bool:
        """Whether `look` would do something besides looking for commands. Reads no database."""
        if self._attached is None or self._is_overtaken:
            return False
        self._lines += self._observer.take_lines()
        return bool(self._lines) or self._folding.is_due or self._console.is_due

    def look(self, *, for_commands: bool) -> list[FromRecord]:
        """Do the periodic work; with `for_commands`, also return the waiting commands. Call often."""
        if self._attached is None or self._is_overtaken:
            return []
        try:
            self._say()
            orders = take_orders(self._lease, self._posted | self._handed) if for_commands else []
            if orders:
                # If this session is over, the next one sends its commands.
                continuing.held(self._lease, self._attached.session, 0)
        except Superseded as error:
            return self._leave(error)
        except Fenced as error:
            return self._overtaken(error)
        self._handed |= {str(each.command.id) for each in orders if isinstance(each, Post)}
        if not orders:
            # Not in the same call: an error of the database here would lose the commands, which count as delivered.
            self._folding.look()
            self._console.look()
        return list(orders)

    def _attach(self, attach: Attach) -> list[FromRecord]:
        if self._attached is not None and self._attached.token == attach.token:
            return [self._attached]
        told: list[FromRecord] = []
        try:
            attached = self._side.attach()
        except Fenced as error:
            told = self._overtaken(error)
            attached = self._side.attach()
        self._attached = replace(attached, token=attach.token)
        self._posted, self._handed = set(attach.posted), set()
        self._seen_report = attached.next_report - 1
        return [self._attached, *told]

    def _report(self, report: Report) -> list[FromRecord]:
        if self._attached is None:
            return []
        if report.session != self._attached.session:
            # The report is from an old session. If its host side is still alive, it learns from this answer that the
            # session has changed.
            return [Stored(0, {}, session=self._attached.session, answers=report.number)]
        told: list[FromRecord] = []
        try:
            stored = self._side.report(report)
        except Superseded as error:
            return self._leave(error)
        except Fenced as error:
            told = self._overtaken(error)
            stored = self._side.report(report)
        if stored.number >= report.number:
            self._note(report)
        return [stored, *told]

    def _leave(self, error: Superseded) -> list[FromRecord]:
        """Stop answering this host side until it attaches again, because another one supervises its training."""
        self._attached = None
        return [ended.Fenced(str(error), overtaken=False)]

    def _overtaken(self, error: Fenced) -> list[FromRecord]:
        """Store all later reports as history of the attempt; return the message to the host side, once."""
        if self._is_overtaken:
            return []
        self._is_overtaken = True
        self._side.keep_as_history()
        return [ended.Fenced(str(error), overtaken=True)]

    def _note(self, report: Report) -> None:
        """Update counters and detectors after a report was stored, once per report."""
        if report.number <= self._seen_report:
            return
        self._seen_report = report.number
        self._posted.update(report.posted)
        self._folding.note(sum(each.values for each in report.records if isinstance(each, PointBlock)))
        self._console.note(line.text for line in report.lines)
        if report.console is not None:
            self._console.note(report.console.lines)
        if not self._is_overtaken:
            self._observer.see(report, self._side.step, self._side.is_stalled)

    def _end(self, told: Ended) -> list[FromRecord]:
        self._observer.finish()
        try:
            if not self._is_overtaken:
                self._say()
        except Fenced as error:
            self._overtaken(error)
        concluded = self._conclude(self._lease, told)
        self._folding.fold_all_but_the_newest()
        self._console.look(ended=True)
        return [concluded]

    def _say(self) -> None:
        """Store the lines that detectors wrote for the console of the run."""
        self._lines += self._observer.take_lines()
        if self._lines:
            lines = [LogLine(text=line.text, source="steersman", level=line.level) for line in self._lines]
            with transaction.atomic():
                renew_lease(self._lease)
                feed.append(self._lease.run_id, LogWritten(attempt=self._lease.number, lines=lines))
            self._lines.clear()
