"""The training process of a run that was started by `steersman.start()`, followed by a child of that process."""

from __future__ import annotations

import signal
from pathlib import Path

from steersman.agent.folders import WorkerProcess
from steersman.agent.launch.worker_group import Worker, WorkerGroup
from steersman.starting.messages import ENDED_FILE


class CallerGroup(WorkerGroup):
    """One rank. Its process may end its run and continue, or end at any time. Its exit status is not known."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, [Worker(0, WorkerProcess.recorded(folder))])
        # What this process has started is not part of the run.
        self._undeclared = None

    def kill_overtaken(self) -> None:
        """Leave the process alone: it may be a notebook, with results that exist nowhere else."""

    def kill(self, number: signal.Signals) -> None:
        if not self._has_left():
            super().kill(number)

    def _has_ended(self, worker: Worker, now: float) -> bool:
        return self._has_left() or worker.recorded is None or not worker.recorded.is_alive()

    def _has_left(self) -> bool:
        return (self._folder / ENDED_FILE).exists()
