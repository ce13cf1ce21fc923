"""The run as the training process sees it: `attach()`, `log()`, the control point.

Everything here ends in one write to the journal or one look at shared memory: no thread, no lock, no
socket, no device synchronisation. Knows nothing of Django; uses torch only where it is loaded already.
"""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from coxswain import journal
from coxswain.appending import MISSING, can_be_parameters
from coxswain.locks import HeldLock, try_lock
from coxswain.mailbox import Mailbox

FOLDER_VARIABLE = "COXSWAIN_ATTEMPT_FOLDER"
RANK_VARIABLE = "COXSWAIN_RANK"
# Written into an attempt's folder by whoever opened a later one: a worker that comes late must not train.
CLOSED_FILE = "closed"
EXIT_FENCED = 4
LARGEST_TRACEBACK_CHARACTERS = 100_000
LARGEST_TEXT_CHARACTERS = 10_000

Outcome = Literal["finished", "stopped"]


class Run:
    """A supervised run. Make it with `coxswain.attach()`."""

    supervised = True

    def __init__(self, folder: Path, rank: int, lock: HeldLock) -> None:
        self.folder: Path | None = folder
        self.rank = rank
        self._lock = lock
        if (folder / CLOSED_FILE).exists():
            print("coxswain: a later attempt holds this run; this process ends", file=sys.stderr)
            raise SystemExit(EXIT_FENCED)
        self._journal = journal.JournalWriter(folder, rank)
        self._mailbox = Mailbox(folder)
        self._posted = self._mailbox.posted
        self._seen = 0
        self._taken = 0
        self._step = 0
        self._stop_asked = False
        self._ended = False
        self._pid = os.getpid()
        self._known: dict[tuple[str, ...], Callable[[int, Iterable[Any]], bool]] = {}
        self._encoders = self._known
        self._quick_log: Callable[..., None] | None = None
        self._waiting: deque[tuple[Any, int, tuple[str, ...], list[Any]]] = deque()

    def log(self, step: int, /, **values: Any) -> None:
        """Record step metrics: numbers, or 0-dim NumPy and torch values, by name.

        What is on the CPU is safe from `kill -9` of any process when this returns; a CUDA value once its
        copy has arrived, which is looked at in later calls. Raises `TypeError` naming the value that is no
        number. A full disk never raises: the loss is counted and told.
        """
        self._log_any(step, values)

    def _log_any(self, step: int, values: dict[str, Any]) -> None:
        """Append plain numbers of names that are known; everything else with care."""
        encoder = self._encoders.get(tuple(values))
        if encoder is not None and encoder(step, values.values()):
            self._step = step
        else:
            self._log_with_care(step, {name: value for name, value in values.items() if value is not MISSING})

    def _log_with_care(self, step: int, values: dict[str, Any]) -> None:
        """Log names that are new, or values that are not all plain numbers; say what is wrong with them."""
        if self._waiting:
            self._write_arrived()
        if not values:
            return
        names = tuple(values)
        if any("\0" in name or not name for name in names):
            raise TypeError("a metric needs a name without NUL characters")
        step = _as_step(step)
        self._step = step
        encoder = self._known.get(names)
        if encoder is None:
            encoder = self._known[names] = self._journal.encoder(names)
            if self._quick_log is None and can_be_parameters(names):
                # The first names are most trainings' only ones: a function of just these takes this method's place.
                self._quick_log = self._journal.logger(names, self, self._log_any)
                self.__dict__["log"] = self._quick_log
        event, numbers = _on_cpu(values)
        if event is None:
            self._append(encoder, step, names, numbers)
        else:
            self._waiting.append((event, step, names, numbers))
            # Every call comes this way, in order, until the copies have arrived and are written.
            self._encoders = {}
            self.__dict__.pop("log", None)

    def _append(
        self, encoder: Callable[[int, Iterable[Any]], bool], step: int, names: tuple[str, ...], values: list[Any]
    ) -> None:
        try:
            encoder(step, [float(value) for value in values])
        except (TypeError, ValueError, OverflowError) as error:
            culprit = next((name for name, value in zip(names, values, strict=True) if not _is_number(value)), names[0])
            raise TypeError(f"log({culprit}=…) takes one number, or a value with one element: {error}") from error

    def _write_arrived(self, wait: bool = False) -> None:
        while self._waiting:
            event, step, names, values = self._waiting[0]
            if wait:
                event.synchronize()
            elif not event.query():
                return
            self._waiting.popleft()
            self._append(self._known[names], step, names, values)
        self._encoders = self._known
        if self._quick_log is not None:
            self.__dict__["log"] = self._quick_log

    def log_epoch(
        self,
        epoch: int,
        /,
        *,
        step: int | None = None,
        duration_s: float | None = None,
        best: bool = False,
        **values: Any,
    ) -> None:
        """Record one complete epoch. Names that the portal knows: train_loss, train_accuracy, validation_loss,
        validation_accuracy, learning_rate, samples_per_second; any other name is kept beside them."""
        self._write_arrived(wait=True)
        for name, value in values.items():
            if not _is_number(value):
                raise TypeError(f"log_epoch({name}=…) takes one number, or a value with one element")
        numbers = {name: float(value) for name, value in values.items()}
        at = self._step if step is None else _as_step(step)
        self._journal.append(
            journal.EPOCH, at, {"epoch": int(epoch), "duration_s": duration_s, "best": bool(best), "values": numbers}
        )

    def plan(
        self, *, total_epochs: int | None = None, total_steps: int | None = None, steps_per_epoch: int | None = None
    ) -> None:
        """Say how long the training will be, for progress and time left."""
        plan = {"total_epochs": total_epochs, "total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
        self._journal.append(journal.PLAN, self._step, plan)

    @property
    def stopping(self) -> bool:
        """The control point: look once a step, and end the loop when it is true."""
        if self._posted[0] != self._seen:
            self._take_commands()
        if self._waiting:
            self._write_arrived()
        return self._stop_asked

    def request_stop(self) -> None:
        """Make `stopping` true from within the process (a signal handler)."""
        self._stop_asked = True

    def _take_commands(self) -> None:
        self._seen = self._posted[0]
        commands = self._mailbox.commands()
        for command in commands[self._taken :]:
            if command["command"] == "stop":
                self._stop_asked = True
                outcome = {"id": command["id"], "state": "applied", "old": "running", "new": "stopping", "reason": ""}
            else:
                reason = f"this training does not know the command {command['command']}"
                outcome = {"id": command["id"], "state": "refused", "old": None, "new": None, "reason": reason}
            self._journal.append(journal.OUTCOME, self._step, outcome)
        self._taken = len(commands)

    def note(self, text: str, level: Literal["info", "warning", "error"] = "info") -> None:
        """Put a line of text before everybody who watches."""
        self._journal.append(journal.NOTE, self._step, {"text": text[:2000], "level": level})

    def log_text(self, name: str, text: str, /, *, step: int | None = None, epoch: int | None = None) -> None:
        """Show a text, such as a sample of a language model; at most 10,000 characters are kept."""
        fields = {"name": name[:200], "text": text[:LARGEST_TEXT_CHARACTERS], "epoch": epoch}
        self._journal.append(journal.TEXT, self._step if step is None else _as_step(step), fields)

    def record_environment(self, environment: dict[str, Any]) -> None:
        """Record versions, GPU names and the like, as JSON-ready values."""
        self._journal.append(journal.ENVIRONMENT, self._step, environment)

    def record_checkpoint(self, path: Path, *, step: int, epoch: int, name: str, size_bytes: int, sha256: str) -> None:
        """Record a checkpoint that is whole on disk, inside `folder`."""
        assert self.folder is not None
        relative = str(path.relative_to(self.folder))
        fields = {"path": relative, "epoch": epoch, "name": name, "size_bytes": size_bytes, "sha256": sha256}
        self._journal.append(journal.CHECKPOINT, step, fields)

    def finish(self, outcome: Outcome = "finished", *, step: int | None = None) -> None:
        """Record the worker's own last word. Later calls are ignored."""
        self._end({"outcome": outcome, "error": "", "traceback": ""}, self._step if step is None else step)

    def _end(self, fields: dict[str, Any], step: int) -> None:
        if self._ended or os.getpid() != self._pid:
            return
        self._ended = True
        self._write_arrived(wait=True)
        self._journal.append(journal.END, step, fields)

    def _record_exception(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        line = _one_line(kind, error)
        self._end(
            {"outcome": "failed", "error": line[:500], "traceback": text[-LARGEST_TRACEBACK_CHARACTERS:]}, self._step
        )

    def _record_exit(self) -> None:
        """A script that ran to its end without `finish()` has finished, or stopped where it was asked to."""
        self._end({"outcome": "stopped" if self._stop_asked else "", "error": "", "traceback": ""}, self._step)


class NullRun(Run):
    """What `attach()` returns outside a supervised run: every call does nothing."""

    supervised = False

    def __init__(self) -> None:
        self.folder = None
        self.rank = 0

    def log(self, step: int, /, **values: Any) -> None: ...

    def log_epoch(
        self,
        epoch: int,
        /,
        *,
        step: int | None = None,
        duration_s: float | None = None,
        best: bool = False,
        **values: Any,
    ) -> None: ...

    def plan(
        self, *, total_epochs: int | None = None, total_steps: int | None = None, steps_per_epoch: int | None = None
    ) -> None: ...

    stopping = False

    def request_stop(self) -> None:
        self.stopping = True

    def note(self, text: str, level: Literal["info", "warning", "error"] = "info") -> None: ...

    def log_text(self, name: str, text: str, /, *, step: int | None = None, epoch: int | None = None) -> None: ...

    def record_environment(self, environment: dict[str, Any]) -> None: ...

    def record_checkpoint(
        self, path: Path, *, step: int, epoch: int, name: str, size_bytes: int, sha256: str
    ) -> None: ...

    def finish(self, outcome: Outcome = "finished", *, step: int | None = None) -> None: ...


def worker_lock_path(folder: Path, rank: int) -> Path:
    """Return the lock that the training process of `rank` holds while it lives."""
    return folder / f"worker-{rank:04d}.lock"


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
    lock = try_lock(worker_lock_path(Path(folder), rank))
    if lock is None:
        # A child of the training process (a DataLoader worker, a helper script) inherits its environment.
        print("coxswain: another process already logs this training, this one logs nowhere", file=sys.stderr)
        _attached = NullRun()
        return _attached
    run = _attached = Run(Path(folder), rank, lock)
    previous = sys.excepthook

    def record_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        run._record_exception(kind, error, trace)
        previous(kind, error, trace)

    sys.excepthook = record_exception
    atexit.register(run._record_exit)
    return run


def _as_step(step: Any) -> int:
    try:
        return int(step)
    except (TypeError, ValueError) as error:
        raise TypeError(f"log() takes the step as a whole number, not {step!r}") from error


def _one_line(kind: type[BaseException], error: BaseException) -> str:
    """Return name and first line of an exception; notes and further lines stand in the traceback."""
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    said = str(error).strip().splitlines()
    return f"{name}: {said[0]}" if said else name


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _on_cpu(values: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return values whose CUDA ones are on their way to pinned memory, and the event that tells they arrived.

    `float()` of a CUDA tensor would make the loop wait for the device; a copy that is asked for later does not.
    """
    numbers: list[Any] = []
    device: Any = None
    for value in values.values():
        if getattr(value, "is_cuda", False):
            device = value.device
            value = value.detach().to("cpu", non_blocking=True)
        numbers.append(value)
    if device is None:
        return None, numbers
    cuda = sys.modules["torch"].cuda
    event = cuda.Event()
    event.record(cuda.current_stream(device))
    return event, numbers
