"""Reports to a record side in the same thread, and waits for each answer: stores the records of ended processes.

No Django, no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from steersman.agent.journals.merged import JournalsRead
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.report_sequence import Outcome, ReportSequence
from steersman.agent.reporting.report_sequence import StoredProgress as StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.messages.reports import Attached, Report, Stored


class RecordSide(Protocol):
    """Stores reports: see `runs.recording.record_side`. Both methods raise the error that prevents an answer."""

    def attach(self) -> Attached: ...
    def report(self, report: Report) -> Stored: ...


class Reporter:
    """Stores ticks, one after the other."""

    def __init__(self, record_side: RecordSide, folder: Path, redactor: Redactor, progress: StoredProgress) -> None:
        self.progress = progress
        self._record_side = record_side
        self._reports = ReportSequence(folder, redactor, progress)

    @property
    def under_way(self) -> Tick | None:
        """Return the tick that has no answer yet."""
        return self._reports.under_way

    def attach(self) -> Attached:
        """Begin a session: from now on, no other supervisor of this attempt can report. Return the stored state.

        Raises `runs.recording.lifecycle.Fenced` if another attempt holds the run.
        """
        attached = self._record_side.attach()
        self._reports.begin_session(attached)
        return attached

    def store(self, tick: Tick) -> Stored:
        """Store a tick exactly once; return the stored state after that.

        After an error, pass the same tick again: if the first report was stored after all, nothing is stored a second
        time. Records that cannot be stored are set aside. If the answer reports less than was stored before,
        `under_way` stays: attach, and continue to read from there.
        """
        if not self._reports.is_attached:
            self.attach()
        while True:
            stored = self._record_side.report(self._reports.report(tick))
            if self._reports.take(stored) is not Outcome.SEND_AGAIN:
                return stored

    def set_aside(self, read: JournalsRead, error: str) -> None:
        """Skip records that crash a supervisor, and keep them beside the journal."""
        self.store(Tick(read=read, deadly=error))
