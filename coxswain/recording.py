"""What a training process tells: step metrics, epochs, texts, checkpoints and its last word.

Each is one write to the journal: no thread, no lock, no socket, no device synchronisation. Knows nothing of Django;
uses torch only where it is loaded already.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from coxswain import journal
from coxswain.appending import MISSING, can_be_parameters

LARGEST_TRACEBACK_CHARACTERS = 100_000
LARGEST_TEXT_CHARACTERS = 10_000

Outcome = Literal["finished", "stopped"]
# A point whose values come from the GPU: the event that tells they arrived, then step, names and values.
OnItsWay = tuple[Any, int, tuple[str, ...], list[Any]]


class Recorder:
    """The part of a run that writes and never reads; `coxswain.run.Run` adds the control point."""

    # What is read or written at every step. An attribute in the dictionary costs three times as much once `log` has
    # taken a place there, which is at its first call.
    __slots__ = ("__dict__", "__weakref__", "_step")

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder: Path | None = folder
        self.rank = rank
        self._journal = journal.JournalWriter(folder, rank)
        self._step = 0
        self._epoch = 0
        self._ended = False
        self._pid = os.getpid()
        self._known: dict[tuple[str, ...], Callable[[int, Iterable[Any]], bool]] = {}
        self._encoders = self._known
        self._quick_log: Callable[..., None] | None = None
        self._waiting: deque[OnItsWay] = deque()

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
            self._hold_back((event, step, names, numbers))

    def _hold_back(self, point: OnItsWay) -> None:
        """Keep a point until its values have arrived."""
        self._waiting.append(point)
        # Every call comes with care, in order, until the copies have arrived and are written.
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
        self._journal.append(
            journal.EPOCH, at, {"epoch": int(epoch), "duration_s": duration_s, "best": bool(best), "values": numbers}
        )

    def plan(
        self, *, total_epochs: int | None = None, total_steps: int | None = None, steps_per_epoch: int | None = None
    ) -> None:
        """Say how long the training will be, for progress and time left."""
        plan = {"total_epochs": total_epochs, "total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
        self._journal.append(journal.PLAN, self._step, plan)

    def expect_quiet(self, seconds: float) -> None:
        """Say that the next sign may take this long, so that nobody takes the training for stalled."""
        self._journal.append(journal.QUIET, self._step, {"seconds": float(seconds)})

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
