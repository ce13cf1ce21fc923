"""The threads that detect alerts, one per attempt. They outlive a short interruption of the connection to the host."""

from __future__ import annotations

import asyncio

from django.conf import settings

from runs.launches.grants import Reported
from runs.recording.lifecycle import Lease
from steersman.agent.machine.redactor import Redactor
from trainer.alerts.shared_reads import SharedReads
from trainer.alerts.thread import AlertThread

# A host that reconnects within this time finds its detectors as it left them.
KEPT_S = 60.0


class DetectorThreads:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._threads: dict[Lease, AlertThread] = {}
        self._users: dict[Lease, int] = {}
        self._ending: dict[Lease, asyncio.TimerHandle] = {}
        self._redactor = Redactor(settings.STEERSMAN_DATA, settings.BASE_DIR)
        self._reads = SharedReads()

    def take(self, reported: Reported) -> AlertThread:
        """Return the running detectors of an attempt, for one connection."""
        lease = reported.lease
        if (timer := self._ending.pop(lease, None)) is not None:
            timer.cancel()
        thread = self._threads.get(lease)
        if thread is None or thread.has_ended:
            thread = AlertThread(lease, self._redactor, reads=self._reads)
            thread.start(resumes=reported.has_reports)
            self._threads[lease] = thread
        self._users[lease] = self._users.get(lease, 0) + 1
        return thread

    def give_back(self, lease: Lease) -> None:
        """End the detectors of an attempt, unless a connection takes them again soon."""
        self._users[lease] -= 1
        if not self._users[lease]:
            del self._users[lease]
            self._ending[lease] = asyncio.get_running_loop().call_later(KEPT_S, self._end, lease)

    def _end(self, lease: Lease) -> None:
        del self._ending[lease]
        self._threads.pop(lease).finish(0.0)
