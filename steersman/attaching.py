"""`attach()` and `start()`: connect a training process to its run, or start a run in it."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from steersman import values
from steersman.files.journal import is_begun
from steersman.files.locks import HeldLock, try_lock
from steersman.ranks.launchers import RankPlace, own_place
from steersman.ranks.undeclared import UndeclaredPeers, how_to_declare, is_below, leave_mark, unrecorded_notice
from steersman.run import FOLDER_VARIABLE, NODE_VARIABLE, RANK_VARIABLE, RANKS_VARIABLE, Run, worker_lock_path
from steersman.starting.card import is_interactive
from steersman.starting.child import CALLER_VARIABLE, HostChild, start_child
from steersman.starting.messages import PUSHES, NewRun
from steersman.values.remarks import Remarks

AFTER_FINISH = (
    "steersman.attach() was called after run.finish(): a process records one training, and that of this process has "
    "ended. To give each trial its own run, start one process per trial with steersman run -- python script.py, or "
    "with manage.py create_run and train. To record all trials in one run, call finish() once, after the last trial, "
    'and log each trial under its own names: run.log(step, {"trial2/loss": loss}).'
)

AFTER_STARTED = (
    "steersman.attach() was called after run.finish(): the run that steersman.start() started has ended. Call "
    "steersman.start() again for another run."
)
NOT_ENDED = (
    "steersman.start() was called before the previous run of this process ended: {run!r}. End that run with "
    "run.finish(), or start each run in a with block. steersman.attach() returns the run that has not ended."
)
OF_ANOTHER = "steersman: another process already logs this training, so this one does not log"
LONGEST_ADDRESS = 2000

# A script may start a process for each trial, or a second one to evaluate.
CONTINUES = (
    "A second process logs to this run after the first one has ended, so the run contains the points of both. For "
    "separate runs, start each process with steersman run -- python script.py, or with manage.py create_run and train."
)

_attached: Run | None = None
# The process that attached: a forked child inherits the variable, but does not record.
_attached_in = 0
# Whether exceptions and the exit of this process are recorded.
_watched = False
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

    If neither `steersman run` nor `manage.py train` started the process, the returned run logs nothing, and this is
    printed once. Raises `RuntimeError` after `run.finish()`: one process trains one run.
    """
    run = run_of_this_process()
    if run.has_ended:
        raise RuntimeError(AFTER_FINISH if run._host is None else AFTER_STARTED)
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


def start(*, project: str = "", name: str = "", portal: str = "", push: str = "none", **parameters: Any) -> Run:
    """Start a run that this process trains, in a script, a notebook or a REPL; return it. `parameters` are its
    configuration (see `Run.configure`).

    `project` is the project of the token, `name` the name of the run, `portal` the address of a portal, `push` the
    checkpoint that is sent there after the end: "best", "last" or "none". The defaults are those of `steersman run`.
    Without a portal, the run is recorded in `./steersman-runs`, and `steersman sync` sends it later. Under `manage.py
    train` and `steersman run` it is `attach()`. Raises `RuntimeError` while another run of this process has not ended.
    """
    global _attached, _attached_in
    if os.environ.get(FOLDER_VARIABLE) and CALLER_VARIABLE not in os.environ:
        return attach(**parameters)
    with _attaching:
        living = _attached if _attached_in == os.getpid() else None
        if living is not None and living.supervised and not living.has_ended:
            raise RuntimeError(NOT_ENDED.format(run=living))
        _attached = _started_run(project, name, portal, push)
        _attached_in = os.getpid()
        run = _attached
    if parameters:
        run.configure(parameters)
    run._show()
    return run


def _started_run(project: Any, name: Any, portal: Any, push: Any) -> Run:
    """Return a new run with a host side of its own; without one, a run that logs nowhere."""
    place = own_place(os.environ)
    if place is not None and place.rank != 0:
        print(unrecorded_notice(place), file=sys.stderr)
        return Run(rank=place.rank)
    shown = values.as_text(name, values.LONGEST_NAME).strip() or _own_name()
    remarks: Remarks = []
    new_run = NewRun(
        pid=os.getpid(),
        project=values.as_text(project, values.LONGEST_NAME).strip(),
        name=shown,
        portal=values.as_text(portal, LONGEST_ADDRESS).strip(),
        push=values.as_choice(push, PUSHES, "none", "start(push)", remarks),
        command_line=[values.clean(word) for word in sys.argv] if _script() else [],
    )
    begun, process = start_child(new_run, Path(__file__).resolve().parent.parent)
    if begun.problem:
        print(f"steersman: {begun.problem}", file=sys.stderr)
    if process is None:
        return Run()
    variables = {FOLDER_VARIABLE: begun.attempt, CALLER_VARIABLE: str(os.getpid())}
    child = HostChild(begun, process, variables)
    try:
        lock = try_lock(worker_lock_path(child.attempt, 0))
        run = Run(child.attempt, 0, lock, undeclared_peers=UndeclaredPeers(child.attempt, place))
    except OSError as error:
        print(f"steersman: {child.attempt} cannot be written to ({error.strerror}): nothing is logged", file=sys.stderr)
        child.end(None)
        return Run()
    run._host, run._name = child, shown
    run._remark(remarks)
    run._record_surroundings(Path.cwd())
    _watch_end()
    return run


def _script() -> str:
    """Return the name of the file that this process runs, "" for a notebook and a REPL."""
    path = Path(sys.argv[0]) if sys.argv and sys.argv[0] else None
    return path.name if path is not None and path.suffix == ".py" and not is_interactive() else ""


def _own_name() -> str:
    # Jupyter sets it to the path of the notebook.
    return _script() or Path(os.environ.get("JPY_SESSION_NAME", "")).name or "interactive"


def _new_run() -> Run:
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder and CALLER_VARIABLE in os.environ:
        print(OF_ANOTHER, file=sys.stderr)
        return Run()
    if not folder:
        how = "steersman run -- python script.py or manage.py train --run-id N -- script.py"
        print(
            f"steersman: nothing is logged, because this process has no supervisor: start the training with {how}, or "
            "call steersman.start()",
            file=sys.stderr,
        )
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
    _watch_end()
    return run


def _watch_end() -> None:
    """Record an exception that ends this process, and its exit, as the end of its run."""
    global _watched
    if _watched:
        return
    _watched = True
    previous = sys.excepthook

    def record_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if _attached is not None:
            _attached._end_by(kind, error, trace)
        previous(kind, error, trace)

    sys.excepthook = record_exception
    atexit.register(_record_exit)


def _record_exit() -> None:
    if _attached is not None:
        _attached._record_exit()


def _turn_away(folder: Path, lock: Path, ranks: int) -> Run:
    """Return a run that logs nowhere, because another process holds the lock.

    A descendant of that process is a helper: a DataLoader worker, or a script that it called. A process beside it was
    started by the same parent, and trains too.
    """
    print(OF_ANOTHER, file=sys.stderr)
    holder = lock.read_text().strip()
    if ranks == 1 and holder.isdigit() and not is_below(int(holder)):
        print(f"steersman: if both processes train, start them with {how_to_declare(0)}", file=sys.stderr)
        leave_mark(folder)
    return Run()


def _join(folder: Path, rank: int, lock: HeldLock, ranks: int, node: str | None, place: RankPlace | None) -> Run:
    if ranks == 1:
        return Run(folder, rank, lock, undeclared_peers=UndeclaredPeers(folder, place))
    from steersman.ranked_run import RankedRun

    return RankedRun(folder, rank, lock, ranks, Path(node) if node else None)
