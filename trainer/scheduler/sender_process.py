"""The process that sends messages about alerts: a child of the watch, restarted if it dies."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

from runs.models import AlertDestination

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
# If a process ran for this long, it did not fail at its start.
HEALTHY_S = 60.0
END_TIMEOUT_S = 12.0


class SenderProcess:
    """Keeps `manage.py send_alerts` running while a destination exists. The process ends when its input is closed."""

    def __init__(self, manage: Path) -> None:
        self._manage = manage
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._start_after = 0.0

    def tick(self, now: float) -> None:
        """Start the process if it is missing and needed; `now` in seconds of `time.monotonic`."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._pause_s = FIRST_PAUSE_S if now - self._started_at > HEALTHY_S else self._pause_s * 2
            self._pause_s = min(self._pause_s, LONGEST_PAUSE_S)
            self._start_after = now + self._pause_s
            logger.warning("the process that sends alert messages ended with exit code %d: starting another", code)
            self._close()
        if self._process is None and now >= self._start_after and AlertDestination.objects.filter(is_on=True).exists():
            self._start(now)

    def stop(self) -> None:
        """End the process; messages in progress have END_TIMEOUT_S to be sent."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start(self, now: float) -> None:
        self._started_at = now
        try:
            # A separate session, so that Ctrl-C only reaches the watch, which then ends it properly.
            self._process = subprocess.Popen(
                [sys.executable, str(self._manage), "send_alerts"], stdin=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            self._start_after = now + LONGEST_PAUSE_S
            logger.warning(
                "the process that sends alert messages could not be started (%s): messages wait for the next try",
                error.strerror,
            )

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
