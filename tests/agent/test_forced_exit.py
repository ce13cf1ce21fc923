"""The last resort of `train`: what ends it while the database holds its main thread."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from steersman.agent.supervise import forced_exit
from steersman.agent.supervise.forced_exit import ForcedExit


def test_a_stop_that_the_disk_did_not_take_is_posted_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(forced_exit, "MAIN_THREAD_CHECK_INTERVAL_S", 0.01)
    posted = threading.Event()
    failures = iter([True, True])

    def post() -> None:
        if next(failures, False):
            raise OSError(28, "No space left on device")
        posted.set()

    interrupts: Any = SimpleNamespace(stops=1, is_terminated=False)
    workers: Any = SimpleNamespace(pids=[])
    last_resort = ForcedExit(interrupts, workers, lambda: float("-inf"), post)
    last_resort.start()
    assert posted.wait(60)
    last_resort.stop()
