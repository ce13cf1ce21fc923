"""The records of a training process: step metrics, epochs, texts, checkpoints and its end.

Each is one write to the journal: no thread, no lock, no socket, no device synchronisation. Does not import Django; uses
torch only if it is already loaded.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from steersman import values
from steersman.files.checkpoint import has_manifest
from steersman.files.journal import records_of
from steersman.files.null_journal import Encoder, Journal
from steersman.files.point_code import MISSING, can_be_parameters
from steersman.layers.watching import EVERY, LayerWatch
from steersman.records.kinds import (
    AlertLevel,
    AlertRecord,
    CheckpointRecord,
    EndRecord,
    EnvironmentRecord,
    EpochRecord,
    Level,
    NoteRecord,
    Outcome,
    ParametersRecord,
    PlanRecord,
    QuietRecord,
    TextRecord,
    WatchRecord,
)
from steersman.records.record import Record
from steersman.values.on_device import Held, HeldPoint, on_cpu
from steersman.values.remarks import Remarks, subject_of
from steersman.values.series_names import as_series_name

# The maximum number of notes about values that cannot be stored.
MOST_REMARKS = 100
MOST_WATCHED = 200
HOW_TO_CALL = {"log": "run.log(step, loss=loss)", "log_epoch": "run.log_epoch(epoch, validation_loss=loss)"}


class Recorder:
    """The part of a run that only writes; `steersman.run.Run` adds the step boundary."""

    # Attributes that are read or written at every step. In the instance dictionary they would cost three times as much
    # after the first call of `log`, which adds an entry there.
    __slots__ = ("__dict__", "__weakref__", "step")
    # The number of processes that train together; see `steersman.ranked_run`.
    ranks = 1

    def __init__(self, folder: Path | None, rank: int, journal: Journal) -> None:
        """`folder` is None without a supervisor; the journal then stores nothing."""
        self.folder = folder
        self.rank = rank
        self._journal = journal
        # The current step. `log` sets it; a loop that logs rarely sets it at every step. It is stored unchecked, so
        # that setting it costs nothing: read `_step`.
        self.step: Any = 0
        self._last_whole_step = 0
        self._epoch = 0
        self._ended = False
        self._pid = os.getpid()
        self._known: dict[tuple[str, ...], Encoder] = {}
        self._encoders = self._known
        self._quick_log: Callable[..., None] | None = None
        self._waiting: deque[Held] = deque()
        self._layers: LayerWatch | None = None
        # Appends norms of layers with the last names. The names vary, because some layers have no gradient.
        self._layer_encoder: tuple[tuple[str, ...], Encoder] | None = None
        self._remarked: set[str] = set()
        self._watched: dict[str, str] = {}

    @property
    def has_ended(self) -> bool:
        """Whether the end was recorded by `finish()`."""
        return self._ended

    @property
    def _step(self) -> int:
        """Return the current step as it can be stored; if `step` cannot, the last valid one, with a note."""
        step = self.step
        if type(step) is not int or not values.fits(step):
            remarks: Remarks = []
            # Set before the note, which belongs to this step too.
            self.step = values.as_step(step, self._last_whole_step, "run.step", remarks)
            self._remark(remarks)
        self._last_whole_step = self.step
        return self._last_whole_step

    def log(self, step: int = MISSING, /, *more: Any, **values: Any) -> None:  # type: ignore[assignment]
        """Record step metrics: numbers, or NumPy and torch values with one element, by name or as one mapping.

        When this returns, values from the CPU are safe from `kill -9` of any process. A CUDA value is safe when its
        copy has arrived, which later calls check. A value that is not a number is left out with a note; so is the whole
        point if the step is not a whole number. Points lost to a full disk are counted and reported. Raises `TypeError`
        if the call has no step. docs/values.md describes how every kind of value is stored.
        """
        self._log_any(step, values, *more)

    def _log_any(self, step: int, values: dict[str, Any], *more: Any) -> None:
        """Append plain numbers with known names; pass everything else to `_log_with_care`."""
        encoder = self._encoders.get(tuple(values))
        if encoder is not None and not more and encoder(step, values.values()):
            self.step = step
        else:
            self._log_with_care(step, {name: value for name, value in values.items() if value is not MISSING}, *more)

    def _log_with_care(self, step: Any, given: dict[Any, Any], *more: Any) -> None:
        """Log names that are new, or values that are not all plain numbers; add notes about problems."""
        if self._waiting:
            self._write_arrived()
        remarks: Remarks = []
        given = values_of_call("log", "step", step, given, more, remarks)
        whole = values.as_stored_whole(step, values.argument("log", "step"), remarks, "its values were")
        if whole is not None:
            self.step = whole
            if self._layers is not None:
                self._layers.settle(whole)
            self._log_values(whole, given, remarks)
        self._remark(remarks)

    def _log_values(self, step: int, given: dict[Any, Any], remarks: Remarks) -> None:
        try:
            event, numbers = on_cpu(given, remarks, self._journal.keeps)
        except RuntimeError as error:
            # The GPU has failed: the training's next call raises the error itself.
            remarks.append(f"Values could not be read from the GPU: {values.shown(error)}")
            return
        if not numbers:
            return
        names = tuple(numbers)
        encoder = self._known.get(names)
        if encoder is None:
            encoder = self._known[names] = self._encoder(names, remarks)
        # Ranks write in the order of their calls, by which the supervisor merges their points.
        if event is None and not (self._waiting and self.ranks > 1):
            encoder(step, numbers.values())
        else:
            self._hold_back(HeldPoint(event, step, names, list(numbers.values())))

    def _encoder(self, names: tuple[str, ...], remarks: Remarks) -> Encoder:
        """Return a function that appends a point with `names`, as several records if the names do not fit into one."""
        stored = tuple(as_series_name(name, remarks) for name in names)
        parts = list(records_of(stored))
        if len(parts) == 1:
            if self._quick_log is None and stored == names and can_be_parameters(names):
                # Most trainings only use the first names, so a function for exactly these replaces this method.
                self._quick_log = self._journal.logger(names, self, self._log_any)
                self.__dict__["log"] = self._quick_log
            return self._journal.encoder(stored)
        encoders = [(part, self._journal.encoder(stored[part])) for part in parts]

        def append(step: int, numbers: Iterable[Any]) -> bool:
            every = list(numbers)
            if type(step) is not int or any(type(number) is not float for number in every):
                return False
            for part, encoder in encoders:
                encoder(step, every[part])
            return True

        return append

    def _remark(self, remarks: Iterable[str]) -> None:
        """Write one note about each value that could not be stored unchanged."""
        for remark in remarks:
            subject = subject_of(remark)
            if subject not in self._remarked and len(self._remarked) < MOST_REMARKS:
                self._remarked.add(subject)
                self.note(remark, level="warning")
                if self.folder is None:
                    # No page shows it without a supervisor, so print it: a wrong call should be noticed before the
                    # script is supervised.
                    print(f"steersman: {remark}", file=sys.stderr)

    def _write(self, record: Record | None, remarks: Iterable[str] = ()) -> None:
        """Append one record. If it cannot be written, it is left out with a note, and the training continues."""
        if record is not None and (self.rank == 0 or not record.is_of_the_leader):
            try:
                self._journal.append(record)
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                remarks = [*remarks, f"A value that the training logged could not be recorded: {values.shown(error)}."]
        self._remark(remarks)

    def _hold_back(self, held: Held) -> None:
        """Keep a point until its values have arrived."""
        self._waiting.append(held)
        # Until the copies have arrived and are written, every call takes the slow path, in order.
        self._encoders = {}
        self.__dict__.pop("log", None)

    def _write_at_boundary(self) -> None:
        """Write what has arrived, at the end of a step."""
        if self._layers is not None:
            self._layers.settle(self._step)
        self._write_arrived()

    def _write_arrived(self, wait: bool = False) -> None:
        """Write the points whose values have arrived from the GPU; with `wait`, all of them."""
        remarks: Remarks = []
        if wait and self._layers is not None:
            self._layers.settle(self._step)
        try:
            while self._waiting and self._waiting[0].has_arrived(wait):
                held = self._waiting[0]
                found = held.values(remarks)
                if found and held.step is not None:
                    self._encoder_of(tuple(found), remarks)(held.step, found.values())
                self._waiting.popleft()
        except Exception as error:  # any exception of a failed GPU: the training's next call raises it itself
            lost = len(self._waiting)
            self._waiting.clear()
            remarks.append(f"{lost} points could not be read from the GPU: {values.shown(error)}")
        if not self._waiting:
            self._encoders = self._known
            if self._quick_log is not None:
                self.__dict__["log"] = self._quick_log
        self._remark(remarks)

    def _encoder_of(self, names: tuple[str, ...], remarks: Remarks) -> Encoder:
        """Return the function that appends a held back point of `log`, whose names are known, or norms of layers."""
        known = self._known.get(names)
        if known is not None:
            return known
        if self._layer_encoder is None or self._layer_encoder[0] != names:
            self._layer_encoder = names, self._encoder(names, remarks)
        return self._layer_encoder[1]

    def begin_at(self, step: int, epoch: int = 0) -> None:
        """Set the step and the complete epochs to resume from. Commands before the training's next step use them."""
        remarks: Remarks = []
        self.step = values.as_step(step, self._step, values.argument("begin_at", "step"), remarks)
        whole = values.as_stored_whole(epoch, values.argument("begin_at", "epoch"), remarks)
        self._epoch = self._epoch if whole is None else whole
        self._remark(remarks)

    def log_epoch(
        self,
        epoch: int = MISSING,  # type: ignore[assignment]
        /,
        *more: Any,
        step: int | None = None,
        duration_s: float | None = None,
        best: bool = False,
        **given: Any,
    ) -> None:
        """Record one complete epoch: its values by name, or as one mapping. The usual names are train_loss,
        train_accuracy, validation_loss, validation_accuracy, learning_rate and samples_per_second; any other name is
        allowed. A number given as `best`, or a `step` that is not a whole number, is stored as a value of that name.
        Values that cannot be stored are left out with a note. Raises `TypeError` if the call has no epoch."""
        remarks: Remarks = []
        given = values_of_call("log_epoch", "epoch", epoch, given, more, remarks)
        self._write_arrived(wait=True)
        record = EpochRecord.of(
            epoch, given, step=step, present=self._step, duration_s=duration_s, best=best, remarks=remarks
        )
        if record is not None:
            self._epoch = record.epoch
        self._write(record, remarks)

    def plan(
        self, *, total_epochs: int | None = None, total_steps: int | None = None, steps_per_epoch: int | None = None
    ) -> None:
        """Set the length of the training, for progress and remaining time.

        Infinity, numbers below 1 and values that are not numbers mean that it is unknown; the last, with a note.
        """
        remarks: Remarks = []
        record = PlanRecord.of(
            step=self._step,
            total_epochs=total_epochs,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            remarks=remarks,
        )
        self._write(record, remarks)

    def expect_quiet(self, seconds: float) -> None:
        """Announce that the next record may take this many seconds, so that the training does not count as stalled."""
        remarks: Remarks = []
        self._write(QuietRecord.of(seconds, step=self._step, remarks=remarks), remarks)

    def note(self, text: str, level: Level = "info") -> None:
        """Write a line of text to the run's log; at most 2,000 characters are kept."""
        remarks: Remarks = []
        self._write(NoteRecord.of(text, level, step=self._step, remarks=remarks), remarks)

    def alert(self, title: str, text: str = "", level: AlertLevel = "warning") -> None:
        """Raise an alert at the current step, with the level info, warning or critical. It stays open.

        At most 200 characters of the title and 2,000 of the text are kept.
        """
        remarks: Remarks = []
        self._write(AlertRecord.of(title, text, level, step=self._step, remarks=remarks), remarks)

    def watch(self, name: str, goal: str) -> None:
        """Let the detectors check a series: "min" if less of it is better, "max" if more is. Call it once per series.

        For other series, the name decides. At most 200 series are watched; invalid arguments are left out with a note.
        """
        remarks: Remarks = []
        record = WatchRecord.of(name, goal, step=self._step, remarks=remarks)
        if record is not None and self._watched.get(record.name) == record.goal:
            return
        if record is not None and record.name not in self._watched and len(self._watched) >= MOST_WATCHED:
            remarks = [f"watch() takes {MOST_WATCHED} series at most: {values.shown(name)} is left out; watch fewer."]
            record = None
        if record is not None:
            self._watched[record.name] = record.goal
        self._write(record, remarks)

    def watch_layers(self, model: Any, /, *, every: int = EVERY, name: str = "") -> None:
        """Record norms of each layer of a torch model at every `every`-th step of its optimizers. The series are
        `layers/gradient/…`, `layers/update/…` and `layers/weight/…`; nothing waits for the GPU. Call it on every rank,
        once per model; `name` becomes a prefix of the layers. Gradients are measured as the optimizer uses them,
        unscaled and clipped. A model that cannot be watched is left out with a note."""
        remarks: Remarks = []
        if self._layers is None:
            self._layers = LayerWatch(self._hold_back, self._remark, self._journal.keeps)
        self._layers.add(model, every, name, remarks)
        self._remark(remarks)

    def log_text(self, name: str, text: str, /, *, step: int | None = None, epoch: int | None = None) -> None:
        """Show a text, such as a sample of a language model; at most 10,000 characters are kept."""
        remarks: Remarks = []
        record = TextRecord.of(name, text, step=step, present=self._step, epoch=epoch, remarks=remarks)
        self._write(record, remarks)

    def record_environment(self, environment: dict[str, Any]) -> None:
        """Record versions, GPU names and similar values. A value that is not a mapping is left out with a note."""
        remarks: Remarks = []
        self._write(EnvironmentRecord.of(environment, step=self._step, remarks=remarks), remarks)

    def configure(self, parameters: Any) -> None:
        """Record the configuration: a mapping, a dataclass or the arguments of argparse. Later calls add to it.
        Pages show and compare it like a recipe's parameters. Anything else is left out with a note."""
        remarks: Remarks = []
        self._write(ParametersRecord.of(parameters, step=self._step, remarks=remarks), remarks)

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
        """Record a checkpoint that is complete on disk, inside `folder`. It is left out with a note if it is elsewhere,
        if its SHA-256 is invalid, or if its step is not a whole number."""
        remarks: Remarks = []
        record = CheckpointRecord.of(
            path, self.folder, step=step, epoch=epoch, name=name, size_bytes=size_bytes, sha256=sha256, reason=reason,
            metrics=metrics, has_manifest=has_manifest(path, sha256), remarks=remarks,
        )  # fmt: skip
        self._write(record, remarks)

    def finish(self, outcome: Outcome = "finished", *, step: int | None = None) -> None:
        """Record the end of the training. Later calls are ignored."""
        remarks: Remarks = []
        end = EndRecord.of(outcome, step=step, present=self._step, remarks=remarks)
        self._remark(remarks)
        self._end(end)

    def _end(self, end: EndRecord) -> None:
        if self._ended or os.getpid() != self._pid:
            return
        self._ended = True
        self._write_arrived(wait=True)
        if self._layers is not None:
            self._layers.end()
        self._write(end)
        self._has_ended_with(end)

    def _has_ended_with(self, end: EndRecord) -> None: ...

    def _record_exception(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        self._end(EndRecord.of_exception(kind, error, trace, step=self._step))


def values_of_call(
    call: str, place: str, at: Any, given: dict[Any, Any], more: Sequence[Any], remarks: Remarks
) -> dict[Any, Any]:
    """Return the values of a call of `log` or `log_epoch`: those by name, and those of one mapping after the step or
    epoch. `at` is the step or epoch, `place` the word for it. Raises `TypeError` with the right call if the step or
    epoch is missing, or if something else follows it."""
    if values.is_mapping(at):
        how = f"to log a dictionary, call run.{call}({place}, values)"
        raise TypeError(f"{call}() takes the {place}, then the values: {how}")
    if at is MISSING:
        raise TypeError(f"{call}() takes the {place} first, then values by name: {HOW_TO_CALL[call]}")
    if len(more) > 1 or (more and not values.is_mapping(more[0])):
        raise TypeError(f"{call}() takes values by name, or one dictionary: {HOW_TO_CALL[call]}")
    return (values.as_mapping(more[0], call, remarks) if more else {}) | given
