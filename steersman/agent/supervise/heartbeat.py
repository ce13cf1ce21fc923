"""Sends heartbeats to a worker on a thread, so that a blocked supervisor counts as alive. No Django, no torch."""

from __future__ import annotations

import threading
import time

from steersman.files.mailbox import Mailbox

WORKER_HEARTBEAT_INTERVAL_S = 1.0
# If a heartbeat is later than this, the process was suspended, and may have lost the run.
LATEST_S = 3.0


class HeartbeatThread:
    """Sends heartbeats to a mailbox from a separate thread until `stop`."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send_forever, name="heart", daemon=True)

    def start(self) -> None:
        self._mailbox.heartbeat()
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _send_forever(self) -> None:
        waiting_since = time.monotonic()
        while not self._stopped.wait(WORKER_HEARTBEAT_INTERVAL_S):
            now = time.monotonic()
            if now - waiting_since < LATEST_S:
                self._mailbox.heartbeat()
            waiting_since = now
