"""Notifies people of alerts: secrets of destinations, messages, and the process that sends them.

Imports `runs.models`, `runs.recording`, `runs.access`, `runs.series`, `runs.alerts` and `runs.alerts.wording`.
`runs.recording.deliveries` writes the waiting rows; `manage.py watch` starts the process that sends them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runs.alerts.sending.trial import TestResult
    from runs.models import AlertDestination


def test_message(destination: AlertDestination) -> TestResult:
    """Send a test to a stored destination from a guarded child process; return its outcome within 45 s."""
    from runs.alerts.sending import trial

    return trial.test_message(destination)
