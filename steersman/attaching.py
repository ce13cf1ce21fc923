"""`attach()`: connects a training process to its run."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from steersman.files.journal import is_begun
from steersman.files.locks import HeldLock, try_lock
from steersman.ranks.launchers import RankPlace, own_place
from steersman.ranks.undeclared import UndeclaredPeers, how_to_declare, is_below, leave_mark, unrecorded_notice
from steersman.run import FOLDER_VARIABLE, NODE_VARIABLE, RANK_VARIABLE, RANKS_VARIABLE, Run, worker_lock_path

AFTER_FINISH = (
    "steersman.attach() after run.finish(): this process has finished its run, and a second training would be mixed "
    "into it. To give each trial its own run, start each one separately (create_run, then train --run-id N -- "
    "script.py); or call "
    'finish() once, after the last trial, and log each one under its own names: run.log(step, {"trial2/loss": loss}).'
)

# A script may start a process for each trial, or a second one to evaluate.
CONTINUES = (
    "A second process logs to this run, after the first one has ended: the run contains the points of both. For "
    "separate runs, start each process by itself (create_run, then train --run-id N -- script.py)."
)

_attached: Run | None = None
# The process that attached: a forked child inherits the variable, but does not record.
_attached_in = 0
# Threads that attach at once get one run. A child that is forked meanwhile does not have the thread that holds the
# lock.
_attaching = threading.RLock()


def _attach_anew() -> None:
    global _attaching
    _attaching = threading.RLock()


os.register_at_fork(after_in_child=_attach_anew)


def attach(**parameters: Any) -> Run:
    """Return the run that this process trains; every call returns the same one. `parameters` are its configuration (see
    `Run.configure`).

    Outside `manage.py train` it returns a run that logs nowhere, and prints this once. Raises `RuntimeError` after
    `run.finish()`: one process trains one run.
    """
    run = run_of_this_process()
    if run.has_ended:
        raise RuntimeError(AFTER_FINISH)
    if parameters:
        run.configure(parameters)
    return run


def run_of_this_process() -> Run:
    """Return the run of this process, even after it has ended; attach if that has not happened yet."""
    global _attached, _attached_in
    with _attaching:
        if _attached is None or _attached_in != os.getpid():
            _attached = _new_run()
            _attached_in = os.getpid()
        return _attached


def _new_run() -> Run:
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        hint = "start it with: manage.py train --run-id N -- script.py"
        print(f"steersman: not supervised, nothing is logged ({hint})", file=sys.stderr)
        return Run()
    rank = int(os.environ.get(RANK_VARIABLE, "0"))
    ranks = int(os.environ.get(RANKS_VARIABLE, "1"))
    node = os.environ.get(NODE_VARIABLE) or None
    # Declared ranks each have their own lock and journal.
    place = own_place(os.environ) if ranks == 1 else None
    if place is not None and place.rank != 0:
        # It never takes the lock, because rank 0 may start later.
        print(unrecorded_notice(place), file=sys.stderr)
        leave_mark(Path(folder))
        return Run(rank=place.rank)
    path = worker_lock_path(Path(node or folder), rank)
    lock = try_lock(path)
    if lock is None:
        return _turn_away(Path(folder), path, ranks)
    lock.note(str(os.getpid()))
    continues = is_begun(Path(folder), rank)
    run = _join(Path(folder), rank, lock, ranks, node, place)
    if continues:
        run.note(CONTINUES, level="warning")
    elif rank == 0:
        run._record_surroundings(Path.cwd())
    previous = sys.excepthook

    def record_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        run._record_exception(kind, error, trace)
        previous(kind, error, trace)

    sys.excepthook = record_exception
    atexit.register(run._record_exit)
    return run


def _turn_away(folder: Path, lock: Path, ranks: int) -> Run:
    """Return a run that logs nowhere, because another process holds the lock.

    A descendant of that process is a helper: a DataLoader worker, or a script that it called. A process beside it was
    started by the same parent, and trains too.
    """
    print("steersman: another process already logs this training, so this one does not log", file=sys.stderr)
    holder = lock.read_text().strip()
    if ranks == 1 and holder.isdigit() and not is_below(int(holder)):
        print(f"steersman: if both train, start them with {how_to_declare(0)}", file=sys.stderr)
        leave_mark(folder)
    return Run()


def _join(folder: Path, rank: int, lock: HeldLock, ranks: int, node: str | None, place: RankPlace | None) -> Run:
    if ranks == 1:
        return Run(folder, rank, lock, undeclared_peers=UndeclaredPeers(folder, place))
    from steersman.ranked_run import RankedRun

    return RankedRun(folder, rank, lock, ranks, Path(node) if node else None)
