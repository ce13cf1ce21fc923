"""Measures the transactions of reports. The result is stored with each heartbeat."""

from __future__ import annotations

from typing import Any

import msgspec

from runs.protocol.reports import SupervisorReport
from runs.recording import announcer


class StoreTiming:
    """Counts the transactions of one supervisor and their time."""

    def __init__(self) -> None:
        self._transactions = 0
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """Count a transaction that was committed."""
        self._transactions += 1
        self._seconds += seconds

    def report(self, journal_backlog_bytes: int) -> dict[str, Any]:
        """Return a `SupervisorReport` in the form of the run's row."""
        told = SupervisorReport(
            journal_backlog_bytes=journal_backlog_bytes,
            transactions=self._transactions,
            transaction_s=round(self._seconds, 6),
            announcements_dropped=announcer.current().dropped,
        )
        found: dict[str, Any] = msgspec.to_builtins(told)
        return found
