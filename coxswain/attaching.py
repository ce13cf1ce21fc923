"""How a training process comes to its run: `attach()`, and the run that it gets where nobody supervises it."""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from coxswain.appending import MISSING
from coxswain.control import Control
from coxswain.locks import HeldLock, try_lock
from coxswain.recording import Outcome, check_call
from coxswain.run import FOLDER_VARIABLE, NODE_VARIABLE, RANK_VARIABLE, RANKS_VARIABLE, Run, worker_lock_path


class NullRun(Run):
    """What `attach()` returns outside a supervised run: it logs nowhere, and its knobs keep their defaults."""

    supervised = False

    def __init__(self) -> None:
        self.folder = None
        self.rank = 0
        self._step = 0
        self._epoch = 0
        self._control = Control(self)

    def log(self, step: int = MISSING, /, *more: Any, **values: Any) -> None:  # type: ignore[assignment]
        """Check the call, so that a wrong one is noticed before the script is supervised."""
        check_call(step, values, *more)

    def log_epoch(self, epoch: int, /, **values: Any) -> None: ...

    def begin_at(self, step: int, epoch: int = 0) -> None: ...

    def plan(
        self, *, total_epochs: int | None = None, total_steps: int | None = None, steps_per_epoch: int | None = None
    ) -> None: ...

    stopping = False

    def request_stop(self) -> None:
        self.stopping = True

    def request(self, kind: str) -> None: ...

    def expect_quiet(self, seconds: float) -> None: ...

    def record_outcome(self, fields: dict[str, Any]) -> None: ...

    def record_state(self, state: str) -> None: ...

    def record_knobs(self) -> None: ...

    def note(self, text: str, level: Literal["info", "warning", "error"] = "info") -> None: ...

    def log_text(self, name: str, text: str, /, *, step: int | None = None, epoch: int | None = None) -> None: ...

    def record_environment(self, environment: dict[str, Any]) -> None: ...

    def record_checkpoint(self, path: Path, **fields: Any) -> None: ...

    def finish(self, outcome: Outcome = "finished", *, step: int | None = None) -> None: ...


_attached: Run | None = None


def attach() -> Run:
    """Return the run that this process trains; the same one at every call.

    Outside `manage.py train` it returns a run that logs nowhere, and says so once.
    """
    global _attached
    if _attached is not None:
        return _attached
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        hint = "start it with: manage.py train --run-id N -- script.py"
        print(f"coxswain: not supervised, nothing is logged ({hint})", file=sys.stderr)
        _attached = NullRun()
        return _attached
    rank = int(os.environ.get(RANK_VARIABLE, "0"))
    node = os.environ.get(NODE_VARIABLE) or None
    lock = try_lock(worker_lock_path(Path(node or folder), rank))
    if lock is None:
        # A child of the training process (a DataLoader worker, a helper script) inherits its environment.
        print("coxswain: another process already logs this training, this one logs nowhere", file=sys.stderr)
        _attached = NullRun()
        return _attached
    run = _attached = _join(Path(folder), rank, lock, int(os.environ.get(RANKS_VARIABLE, "1")), node)
    previous = sys.excepthook

    def record_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        run._record_exception(kind, error, trace)
        previous(kind, error, trace)

    sys.excepthook = record_exception
    atexit.register(run._record_exit)
    return run


def _join(folder: Path, rank: int, lock: HeldLock, ranks: int, node: str | None) -> Run:
    if ranks == 1:
        return Run(folder, rank, lock)
    from coxswain.ranks import RankedRun

    return RankedRun(folder, rank, lock, ranks, Path(node) if node else None)
