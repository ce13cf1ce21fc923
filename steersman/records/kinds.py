"""The records of a journal, one class per kind. A new kind begins here.

`alert_kinds` has those of alerts, `knob_kinds` those of knobs, `own_kinds` those with which a script describes itself.
`of` turns the arguments of a training into values that can be stored: the table of docs/values.md. For each value that
could not be stored unchanged, it appends to `remarks`; it raises for no value, and returns None if nothing is left to
store.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, get_args

from steersman import values
from steersman.records.alert_kinds import AlertLevel as AlertLevel
from steersman.records.alert_kinds import AlertRecord as AlertRecord
from steersman.records.alert_kinds import WatchRecord as WatchRecord
from steersman.records.knob_kinds import EffectRecord as EffectRecord
from steersman.records.knob_kinds import KnobsRecord as KnobsRecord
from steersman.records.own_kinds import HandlersRecord as HandlersRecord
from steersman.records.own_kinds import ParametersRecord as ParametersRecord
from steersman.records.own_kinds import PatchRecord as PatchRecord
from steersman.records.own_kinds import RankRolledBackRecord as RankRolledBackRecord
from steersman.records.record import LARGEST_PAYLOAD_BYTES, Record
from steersman.records.typed_json import Json
from steersman.values import places
from steersman.values.remarks import Remarks

LARGEST_TRACEBACK_CHARACTERS = 100_000
LONGEST_ERROR = 500
LONGEST_REMARK = 500

Level = Literal["info", "warning", "error"]
State = Literal["running", "paused"]
OutcomeState = Literal["applied", "refused", "expired"]
Reason = Literal["last", "best", "hourly", "named", "stop"]
# The end that a training reports: "failed" after an exception, "" if the script ran to its end.
Outcome = Literal["finished", "stopped"]
AnyOutcome = Literal["finished", "stopped", "failed", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRecord(Record):
    """Step metrics by name. A journal packs them without JSON, and `log()` does not create objects of this class."""

    kind: ClassVar[int] = 1
    title: ClassVar[str] = "a point at step {step}"
    shows_progress: ClassVar[bool] = True
    is_regular: ClassVar[bool] = True
    is_recording: ClassVar[bool] = True

    values: dict[str, float]

    @classmethod
    def read(cls, step: int, number: int, time: float, values: dict[str, float], rank: int = 0) -> PointRecord:
        """Return a point of a journal or message, at a third of the cost of `PointRecord(…)`: a burst has millions."""
        record = _new(cls)
        _set_step(record, step)
        _set_number(record, number)
        _set_time(record, time)
        _set_rank(record, rank)
        _set_values(record, values)
        return record


# The constructor of a frozen dataclass looks up each field by name; the slots' setters do not.
_new = object.__new__
_set_step, _set_number, _set_time, _set_rank = (
    getattr(PointRecord, name).__set__ for name in ("step", "number", "time", "rank")
)
_set_values = vars(PointRecord)["values"].__set__


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord(Record):
    """One complete epoch."""

    kind: ClassVar[int] = 2
    title: ClassVar[str] = "the epoch {epoch}"
    shows_progress: ClassVar[bool] = True
    is_regular: ClassVar[bool] = True
    is_recording: ClassVar[bool] = True

    epoch: int
    duration_s: float | None = None
    best: bool = False
    values: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, epoch: Any, given: dict[Any, Any], *, step: Any, present: int, duration_s: Any, best: Any, remarks: Remarks
    ) -> EpochRecord | None:
        if not values.is_flag(best):
            given["best"], best = best, False
        if step is not None and not values.is_whole(step):
            given["step"], step = step, None
        numbers = values.as_numbers(given, "log_epoch", remarks)
        at = values.as_step(step, present, values.argument("log_epoch", "step"), remarks)
        whole = values.as_stored_whole(epoch, values.argument("log_epoch", "epoch"), remarks)
        seconds = None
        if duration_s is not None:
            seconds = values.as_seconds(duration_s, "log_epoch(duration_s=…)", remarks)
        flag = values.as_flag(best)
        if whole is None:
            return None
        given_count = len(numbers)
        record = cls(step=at, epoch=whole, duration_s=seconds, best=flag, values=numbers)
        while len(record.payload()) > LARGEST_PAYLOAD_BYTES:
            numbers = dict(list(numbers.items())[: len(numbers) // 2])
            record = replace(record, values=numbers)
        if len(numbers) < given_count:
            remarks.append(f"Epoch {whole} has more values than a record can hold: {len(numbers)} were stored.")
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord(Record):
    """The length of the training; None means open-ended."""

    kind: ClassVar[int] = 3
    title: ClassVar[str] = "the plan"

    total_epochs: int | None = None
    total_steps: int | None = None
    steps_per_epoch: int | None = None

    @classmethod
    def of(
        cls, *, step: int, total_epochs: Any, total_steps: Any, steps_per_epoch: Any, remarks: Remarks
    ) -> PlanRecord:
        return cls(
            step=step,
            total_epochs=values.as_total(total_epochs, "plan(total_epochs=…)", remarks),
            total_steps=values.as_total(total_steps, "plan(total_steps=…)", remarks),
            steps_per_epoch=values.as_total(steps_per_epoch, "plan(steps_per_epoch=…)", remarks),
        )

    def check(self) -> None:
        if any(each is not None and each < 1 for each in (self.total_epochs, self.total_steps, self.steps_per_epoch)):
            raise ValueError("a total must be a number of at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentRecord(Record):
    """The environment of a rank: versions, GPU names and similar values."""

    kind: ClassVar[int] = 4
    title: ClassVar[str] = "the environment"
    from_every_rank: ClassVar[bool] = True
    shows_progress: ClassVar[bool] = True

    environment: dict[str, Json]

    @classmethod
    def of(cls, environment: Any, *, step: int, remarks: Remarks) -> EnvironmentRecord | None:
        if not values.is_mapping(environment):
            remarks.append(f"record_environment() takes a mapping, not {values.shown(environment)}: it was left out.")
            return None
        return cls(step=step, environment=_object(environment))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRecord(Record):
    """A line of text for all viewers."""

    kind: ClassVar[int] = 5
    title: ClassVar[str] = "a note"
    from_every_rank: ClassVar[bool] = True

    text: str
    level: Level = "info"

    @classmethod
    def of(cls, text: Any, level: Any, *, step: int, remarks: Remarks) -> NoteRecord:
        shown: Any = values.as_choice(level, get_args(Level), "info", "note(level=…)", remarks)
        return cls(step=step, text=values.as_text(text, values.LONGEST_NOTE), level=shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRecord(Record):
    """The outcome of a command; `id` is its id, None if a signal requested it."""

    kind: ClassVar[int] = 6
    title: ClassVar[str] = "the outcome of a command"
    is_of_the_leader: ClassVar[bool] = True
    shows_progress: ClassVar[bool] = True

    id: str | None
    command: str
    state: OutcomeState
    old: Json = None
    new: Json = None
    effective: Json = None
    # The number of ranks that applied it.
    ranks: int | None = None
    reason: str = ""
    # The step from which the training continues, if it was rolled back: `step` is then the last one before that.
    to_step: int | None = None
    to_epoch: int | None = None

    @classmethod
    def of(
        cls, id: str | None, command: str, state: OutcomeState, *, step: int, ranks: int | None = None,
        old: object = None, new: object = None, effective: object = None, remark: object = "",
        to_step: int | None = None, to_epoch: int | None = None,
    ) -> OutcomeRecord:  # fmt: skip
        # One bound for all three: a handler may return values of any shape and size.
        kept = _object({"old": old, "new": new, "effective": effective})
        return cls(
            step=step,
            id=id,
            command=values.as_text(command, values.LONGEST_NAME),
            state=state,
            old=kept.get("old"),
            new=kept.get("new"),
            effective=kept.get("effective"),
            ranks=ranks,
            reason=values.as_text(remark, LONGEST_REMARK),
            to_step=to_step,
            to_epoch=to_epoch,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord(Record):
    """A checkpoint that is complete on disk; `path` is relative to the attempt's folder."""

    kind: ClassVar[int] = 7
    title: ClassVar[str] = "the checkpoint {name}"
    shows_progress: ClassVar[bool] = True
    is_recording: ClassVar[bool] = True

    path: str
    epoch: int
    name: str
    size_bytes: int
    sha256: str
    reason: Reason = "last"
    metrics: dict[str, float] = field(default_factory=dict)
    # A folder with our manifest, which has this SHA-256; only the script can read and remove any other checkpoint.
    has_manifest: bool = False

    @classmethod
    def of(
        cls, path: Any, folder: Path | None, *, step: Any, epoch: Any, name: Any, size_bytes: Any, sha256: Any,
        reason: Any, metrics: Any, has_manifest: bool = False, remarks: Remarks,
    ) -> CheckpointRecord | None:  # fmt: skip
        at, of_epoch, size = (
            values.as_stored_whole(value, values.argument("record_checkpoint", argument), remarks)
            for argument, value in (("step", step), ("epoch", epoch), ("size_bytes", size_bytes))
        )
        numbers = values.as_numbers({} if metrics is None else metrics, "record_checkpoint", remarks)
        inside, problem = places.as_path_inside(path, folder, "record_checkpoint()")
        digest = places.as_digest(sha256)
        if not digest:
            problem = problem or "its sha256 is not 64 hexadecimal digits"
        if at is None or of_epoch is None or size is None or size < 0:
            remarks.append(_left_out(problem or "its step, epoch or size cannot be stored"))
            return None
        if problem:
            remarks.append(_left_out(problem))
            return None
        why: Any = values.as_choice(reason, get_args(Reason), "named", "record_checkpoint(reason=…)", remarks)
        return cls(
            step=at,
            path=inside,
            epoch=of_epoch,
            name=values.as_name(name, remarks),
            size_bytes=size,
            sha256=digest,
            reason=why,
            metrics=numbers,
            has_manifest=has_manifest,
        )

    def check(self) -> None:
        if not places.is_path_inside(self.path):
            raise ValueError("path is not inside the folder of the attempt")
        if not places.as_digest(self.sha256):
            raise ValueError("sha256 is not a SHA-256 in hexadecimal digits")
        if self.size_bytes < 0:
            raise ValueError("size_bytes is negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedRecord(Record):
    """The number of records that the disk refused, or, if `above_bound`, that were left out to limit the journal."""

    kind: ClassVar[int] = 8
    title: ClassVar[str] = "the number of dropped records"
    from_every_rank: ClassVar[bool] = True

    records: int
    # Those took no number of the journal, so none is missing.
    above_bound: bool = False

    def check(self) -> None:
        if self.records < 0:
            raise ValueError("records must be a number of at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRecord(Record):
    """The last record of a training process."""

    kind: ClassVar[int] = 9
    title: ClassVar[str] = "the end"
    shows_progress: ClassVar[bool] = True

    outcome: AnyOutcome
    error: str = ""
    traceback: str = ""

    @classmethod
    def of(cls, outcome: Any, *, step: Any, present: int, remarks: Remarks) -> EndRecord:
        word: Any = values.as_choice(outcome, get_args(Outcome), "finished", "finish(outcome)", remarks)
        return cls(step=values.as_step(step, present, values.argument("finish", "step"), remarks), outcome=word)

    @classmethod
    def of_exception(
        cls, kind: type[BaseException], error: BaseException, trace: TracebackType | None, *, step: int
    ) -> EndRecord:
        try:
            text = "".join(traceback.format_exception(kind, error, trace))
        except Exception:  # any exception, of the error's own methods
            text = ""
        return cls(
            step=step,
            outcome="failed",
            error=values.as_error(kind, error, LONGEST_ERROR),
            traceback=values.clean(text[-LARGEST_TRACEBACK_CHARACTERS:]),
        )

    @property
    def is_good(self) -> bool:
        """Return whether the process finished, stopped, or ran to its end."""
        return self.outcome != "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRecord(Record):
    """A text logged by the training, such as a sample of a language model."""

    kind: ClassVar[int] = 10
    title: ClassVar[str] = "the text {name}"
    shows_progress: ClassVar[bool] = True
    is_recording: ClassVar[bool] = True

    name: str
    text: str
    epoch: int | None = None

    @classmethod
    def of(cls, name: Any, text: Any, *, step: Any, present: int, epoch: Any, remarks: Remarks) -> TextRecord:
        at = values.as_step(step, present, values.argument("log_text", "step"), remarks)
        of_epoch = (
            None if epoch is None else values.as_stored_whole(epoch, values.argument("log_text", "epoch"), remarks)
        )
        shown = values.as_text(text, values.LONGEST_TEXT)
        return cls(step=at, name=values.as_name(name, remarks), text=shown, epoch=of_epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRecord(Record):
    """The training is paused, or continues."""

    kind: ClassVar[int] = 12
    title: ClassVar[str] = "a pause"
    is_of_the_leader: ClassVar[bool] = True
    shows_progress: ClassVar[bool] = True

    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietRecord(Record):
    """The next sign of progress may take this long."""

    kind: ClassVar[int] = 13
    title: ClassVar[str] = "an announcement of silence"

    seconds: float

    @classmethod
    def of(cls, seconds: Any, *, step: int, remarks: Remarks) -> QuietRecord | None:
        expected = values.as_seconds(seconds, "expect_quiet(seconds)", remarks)
        return None if expected is None else cls(step=step, seconds=expected)

    def check(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError("seconds must be a time")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAsideRecord(Record):
    """Text, samples and events that a supervisor could not store. Written only to a quarantine."""

    kind: ClassVar[int] = 14
    title: ClassVar[str] = "what was set aside"

    lines: list[str] = field(default_factory=list)
    system: dict[str, float | None] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)


def _object(given: Mapping[Any, Any]) -> dict[str, Json]:
    kept = values.as_values(given)
    return kept if isinstance(kept, dict) else {}


def _left_out(problem: str) -> str:
    return f"A checkpoint was left out of the record: {problem}."
