"""The run as the training process sees it: `attach()`, `log()`, the control point.

Everything here ends in one write to the journal or one look at shared memory: no thread, no lock, no
socket, no device synchronisation. Knows nothing of Django; uses torch only where it is loaded already.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from coxswain import journal
from coxswain.appending import MISSING, can_be_parameters
from coxswain.control import Control, Handler
from coxswain.knobs import Knob, Scale, Value, spec_for
from coxswain.locks import HeldLock, try_lock
from coxswain.mailbox import Mailbox

FOLDER_VARIABLE = "COXSWAIN_ATTEMPT_FOLDER"
RANK_VARIABLE = "COXSWAIN_RANK"
RANKS_VARIABLE = "COXSWAIN_RANKS"
# The folder of a node other than the first: what is shared memory, or a lock, is of one host.
NODE_VARIABLE = "COXSWAIN_NODE_FOLDER"
START_PAUSED_VARIABLE = "COXSWAIN_START_PAUSED"
UNADOPTED_VARIABLE = "COXSWAIN_UNADOPTED_S"
# Written into an attempt's folder by whoever opened a later one: a worker that comes late must not train.
CLOSED_FILE = "closed"
EXIT_FENCED = 4
LARGEST_TRACEBACK_CHARACTERS = 100_000
LARGEST_TEXT_CHARACTERS = 10_000
# A training that nobody supervises for this long saves and ends.
UNADOPTED_S = 600.0
# Every so many control points one looks at the clock; slow trainings do at each.
LOOK_EVERY = 128
SLOW_LOOK_S = 5.0
PAUSE_LOOK_S = 0.01
# Never what the mailbox counts: makes the next control point look.
ATTENTION = -1

Outcome = Literal["finished", "stopped"]


class Run:
    """A supervised run. Make it with `coxswain.attach()`."""

    # What is read at every step. An attribute in the dictionary costs three times as much once `log` has taken a
    # place there, which is at its first call.
    __slots__ = ("__dict__", "__weakref__", "_left", "_posted", "_seen", "_step")
    supervised = True
    # How many processes train together; see `coxswain.ranks`.
    ranks = 1

    def __init__(self, folder: Path, rank: int, lock: HeldLock, node: Path | None = None) -> None:
        self.folder: Path | None = folder
        self.rank = rank
        self._lock = lock
        if (folder / CLOSED_FILE).exists():
            print("coxswain: a later attempt holds this run; this process ends", file=sys.stderr)
            raise SystemExit(EXIT_FENCED)
        self._journal = journal.JournalWriter(folder, rank)
        self._mailbox = Mailbox(node or folder)
        self._posted = self._mailbox.posted
        # What the mailbox counted when it was last looked at; ATTENTION where the next control point must look.
        self._seen = ATTENTION
        self._counted = 0
        # How many control points may pass before the next look at the clock.
        self._left = LOOK_EVERY
        self._step = 0
        self._epoch = 0
        self._signalled: list[str] = []
        paused = os.environ.get(START_PAUSED_VARIABLE) == "1"
        self._control = Control(self, paused=paused, ranks=self.ranks, leads=rank == 0, agree=self.agree)
        if self._control.paused:
            self.record_state("paused")
        self._guard = Guard(self._mailbox, float(os.environ.get(UNADOPTED_VARIABLE, UNADOPTED_S)))
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
            self._seen = ATTENTION
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

    def begin_at(self, step: int, epoch: int = 0) -> None:
        """Say behind which step and how many whole epochs a training goes on: commands until its next step take it."""
        self._step, self._epoch = step, epoch

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
        self._epoch = int(epoch)
        if self._control.waits:
            self._seen = ATTENTION
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
        """The control point: look once a step, and end the loop when it is true.

        Commands take effect here, and here a paused training waits. Look once before the first step too, where the
        run may be started paused (`while not run.stopping:` does).
        """
        if self._posted[0] == self._seen:
            self._left -= 1
            if self._left:
                return False
        return self._at_control_point()

    @property
    def saves_on_stop(self) -> bool:
        """Whether whoever stopped the training wants a checkpoint."""
        return self._control.saves_on_stop

    def request_stop(self) -> None:
        """Make `stopping` true from within the process (a signal handler)."""
        self._control.stopping = True
        self._seen = ATTENTION

    def request(self, kind: str) -> None:
        """Do a command such as "save_checkpoint" at the next control point; fit for a signal handler."""
        self._signalled.append(kind)
        self._seen = ATTENTION

    def agree(self, problem: str = "") -> str:
        """Return what is wrong on any rank, "" where nothing is; alone there is only what is wrong here."""
        return problem

    def _at_control_point(self) -> bool:
        """Do all that is to do between two steps; return whether the training is to end."""
        control = self._control
        self._take_commands()
        if self._waiting:
            self._write_arrived()
        self._look_at_clock()
        while control.paused and not control.stopping:
            time.sleep(PAUSE_LOOK_S)
            self._take_commands()
            self._look_at_clock()
        return control.stopping

    def _take_commands(self) -> None:
        control = self._control
        counted = self._posted[0]
        # First: a signal that comes from here on must find its mark again at the next control point.
        self._seen = counted
        while self._signalled:
            problem = control.do(self._signalled.pop(0), {}, self._step, self._epoch)
            if problem:
                self.note(problem, level="warning")
        if counted != self._counted:
            self._counted = counted
            control.take(self._mailbox.new_commands(), self._step, self._epoch)
        control.look(self._step, self._epoch)
        if control.needs_attention or self._waiting:
            self._seen = ATTENTION

    def _look_at_clock(self) -> None:
        """End a training that nobody has supervised for long; look more often where steps are slow."""
        since_last_s, unadopted = self._guard.look(time.monotonic())
        self._left = 1 if since_last_s > SLOW_LOOK_S else LOOK_EVERY
        if unadopted and not self._control.stopping:
            self.note("Nobody has supervised this training for long: it saves and ends.", level="warning")
            self.request_stop()

    def on(self, kind: str, handler: Handler) -> None:
        """Say how this training does "save_checkpoint", "evaluate" or "extend": `handler(arguments)` is called between
        two steps. What it raises refuses the command, and the training goes on."""
        self._control.on(kind, handler)

    def knob(
        self,
        name: str,
        default: Value | Mapping[str, Value],
        /,
        *,
        minimum: float | int | None = None,
        maximum: float | int | None = None,
        choices: Sequence[Value] = (),
        scale: Scale = "linear",
        unit: str = "",
        help: str = "",
        series: str = "",
        apply: Callable[..., object] | None = None,
        effective: Callable[..., float] | None = None,
    ) -> Knob:
        """Declare a value that may be changed while training, and read `.value` wherever it is needed.

        A mapping as `default` gives a value for each parameter group, read as `knob[group]`. `apply(value)` (with
        groups `apply(value, group)`) puts a change to work; where it raises, the change is refused and the old value
        put back. `effective()` tells the value in effect where a schedule multiplies it, `series` the series that
        shows it. Raises `coxswain.knobs.KnobError` where the declaration contradicts itself.
        """
        spec = spec_for(
            name,
            default,
            minimum=minimum,
            maximum=maximum,
            choices=choices,
            scale=scale,
            unit=unit,
            help=help,
            series=series,
        )
        knob = Knob(spec, default, apply=apply, effective=effective)
        self.declare(knob)
        return knob

    def declare(self, *knobs: Knob) -> None:
        """Declare several knobs at once."""
        for knob in knobs:
            self._control.knobs.add(knob)
        self.record_knobs()

    @property
    def knobs(self) -> dict[str, dict[str, Value]]:
        """Return the present values of all knobs, by parameter group, for a checkpoint."""
        return {knob.spec.name: knob.values for knob in self._control.knobs}

    def restore_knobs(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Put the knobs of a checkpoint to work; those that this training does not declare are left out."""
        for knob in self._control.knobs:
            if knob.spec.name in values:
                knob.restore(values[knob.spec.name])
        self.record_knobs()

    def expect_quiet(self, seconds: float) -> None:
        """Say that the next sign may take this long, so that nobody takes the training for stalled."""
        self._journal.append(journal.QUIET, self._step, {"seconds": float(seconds)})

    def record_outcome(self, fields: dict[str, Any]) -> None:
        """Record what became of a command."""
        self._journal.append(journal.OUTCOME, self._step, fields)
        self._mailbox.tell_outcome()

    def record_state(self, state: str) -> None:
        """Record that the training waits ("paused") or goes on ("running")."""
        self._journal.append(journal.STATE, self._step, {"state": state})

    def record_knobs(self) -> None:
        """Record what the knobs take and where they stand."""
        self._journal.append(journal.KNOBS, self._step, {"knobs": self._control.knobs.to_wire()})

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

    def record_checkpoint(
        self,
        path: Path,
        *,
        step: int,
        epoch: int,
        name: str,
        size_bytes: int,
        sha256: str,
        reason: str = "last",
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Record a checkpoint that is whole on disk, inside `folder`."""
        assert self.folder is not None
        fields = {
            "path": str(path.relative_to(self.folder)),
            "epoch": epoch,
            "name": name,
            "size_bytes": size_bytes,
            "sha256": sha256,
            "reason": reason,
            "metrics": dict(metrics or {}),
        }
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
        outcome = "stopped" if self._control.stopping else ""
        self._end({"outcome": outcome, "error": "", "traceback": ""}, self._step)


class NullRun(Run):
    """What `attach()` returns outside a supervised run: it logs nowhere, and its knobs keep their defaults."""

    supervised = False

    def __init__(self) -> None:
        self.folder = None
        self.rank = 0
        self._step = 0
        self._epoch = 0
        self._control = Control(self)

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

    def request(self, kind: str) -> None: ...

    def expect_quiet(self, seconds: float) -> None: ...

    def record_outcome(self, fields: dict[str, Any]) -> None: ...

    def record_state(self, state: str) -> None: ...

    def record_knobs(self) -> None: ...

    def note(self, text: str, level: Literal["info", "warning", "error"] = "info") -> None: ...

    def log_text(self, name: str, text: str, /, *, step: int | None = None, epoch: int | None = None) -> None: ...

    def record_environment(self, environment: dict[str, Any]) -> None: ...

    def record_checkpoint(
        self,
        path: Path,
        *,
        step: int,
        epoch: int,
        name: str,
        size_bytes: int,
        sha256: str,
        reason: str = "last",
        metrics: Mapping[str, float] | None = None,
    ) -> None: ...

    def finish(self, outcome: Outcome = "finished", *, step: int | None = None) -> None: ...


class Guard:
    """Tells how long no supervisor has lived, by this process's own monotonic clock."""

    # A host that slept, or a process that was suspended, must see the silence in several looks of its own.
    MOST_COUNTED_S = 30.0

    def __init__(self, mailbox: Mailbox, limit_s: float) -> None:
        self._mailbox = mailbox
        self._limit_s = limit_s
        self._beats = mailbox.beats
        self._silent_s = 0.0
        self._looked_at = time.monotonic()

    def look(self, now: float) -> tuple[float, bool]:
        """Return the seconds since the last look, and whether the silence has lasted for too long."""
        elapsed, self._looked_at = now - self._looked_at, now
        beats = self._mailbox.beats
        if beats != self._beats:
            self._beats, self._silent_s = beats, 0.0
        else:
            self._silent_s += min(elapsed, self.MOST_COUNTED_S)
        return elapsed, self._silent_s > self._limit_s


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
