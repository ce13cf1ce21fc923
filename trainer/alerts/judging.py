"""From stored ticks to what begins and what is over. No database, no thread and no clock: callers tell the time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from runs.alerts.detectors.curve import deviation_of
from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.kinds import is_validation
from runs.alerts.detectors.points import Alarm, Point
from runs.protocol.nonfinite import name_nonfinite
from runs.recording.alerts import Finding, is_late
from steersman.records.kinds import EpochRecord, OutcomeRecord, PointRecord, StateRecord, WatchRecord
from steersman.records.record import Record
from trainer.alerts.titles import title_of
from trainer.ingest.point_events import SeriesNames

STALL = "stall"
SET_KNOB = "set_knob"
# What is usual is told of so many values before the one that was judged, and of no fewer.
USUAL_OF = 64
FEWEST_OF_USUAL = 8
# Of the training's time: so long after an alert of a detector and a series began none begins.
COOL_DOWN_S = 60.0

# A detector and a series.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a tick brought: its records, its samples of the machine with their time, and the step that the run is at.

    `stalled`: the training has not stepped for far longer than usual, and nobody announced that.
    """

    records: Sequence[Record] = ()
    system: Mapping[str, float | None] = field(default_factory=dict)
    step: int = 0
    time: float = 0.0
    stalled: bool = False


class RunJudge:
    """The detectors of one attempt, and which of their alarms last."""

    def __init__(self, names: SeriesNames, judge: Judge | None = None) -> None:
        self._names = names
        self._judge = judge or Judge()
        self._recent: dict[str, deque[float]] = {}
        # Series of steps: what an epoch tells of them is known.
        self._of_steps: set[str] = set()
        self._told = 0
        self.lasting: set[Key] = set()
        # When the last alert of each began, and what began again too soon and may last until it is told.
        self._began: dict[Key, float] = {}
        self._held: dict[Key, Finding] = {}
        self._left_out = 0

    def points(self, batch: Batch) -> Iterator[Point]:
        """Yield the points of a batch in their order, and tell the detectors of what people did between them."""
        for record in batch.records:
            match record:
                case PointRecord():
                    shown = self._names.stored(tuple(record.values))
                    self._of_steps.update(shown)
                    for name, value in zip(shown, record.values.values(), strict=True):
                        yield Point(name, record.step, record.time, value)
                case EpochRecord():
                    yield from self._points_of(record)
                case WatchRecord(name=name, goal=goal):
                    (shown_name,) = self._names.stored((name,))
                    self._judge.declare(shown_name, goal)
                case OutcomeRecord(command=command, state="applied") if command == SET_KNOB:
                    self._judge.turned()
                case StateRecord(state=state) if state != "paused":
                    # The pause is no gap between points.
                    self._judge.resumed()
        for name, sample in batch.system.items():
            if sample is not None:
                yield Point(name, batch.step, batch.time, sample)

    def _points_of(self, epoch: EpochRecord) -> Iterator[Point]:
        """Yield what no step told: validation values, and all values where the training logs no steps."""
        for name, value in zip(self._names.stored(tuple(epoch.values)), epoch.values.values(), strict=True):
            if name not in self._of_steps and (is_validation(name) or not self._of_steps):
                yield Point(name, epoch.step, epoch.time, value)

    def continues(self) -> None:
        """The points continue those of an earlier attempt, or those that an earlier supervisor judged."""
        self._judge.continues()

    def skip(self) -> None:
        """Points were left out: what follows may differ from what came before."""
        self._judge.turned()

    def see(self, point: Point, now: float) -> list[Finding]:
        """Judge a point; `now` in seconds since the epoch. Return what begins."""
        # What was silent speaks again: of a stall only `silent` tells, while it lasts.
        began = [alarm for alarm in self._judge.judge(point) if alarm.detector != STALL]
        found = self._beginning([self._finding(alarm, point, now) for alarm in began], point.time)
        if math.isfinite(point.value):
            recent = self._recent.get(point.series)
            if recent is None:
                recent = self._recent[point.series] = deque(maxlen=USUAL_OF)
            recent.append(point.value)
        return found

    def silent(self, now: float) -> list[Finding]:
        """Return what begins because nothing comes. Call while the training is stalled."""
        return self._beginning([self._finding(alarm, None, now) for alarm in self._judge.silent(now)], now)

    def over(self) -> list[Key]:
        """Return the alarms that lasted and do not any more."""
        active = self._active()
        for key in self._held.keys() - active:
            self._leave_out(key)
        ended = sorted(self.lasting - active)
        self.lasting &= active
        return ended

    def take_messages(self) -> list[str]:
        """Return what the detectors have to say since the last call: which of them were switched off."""
        new = self._judge.messages[self._told :]
        self._told += len(new)
        return new

    def end(self) -> None:
        """Nothing more comes: what is held back will not be told."""
        for key in list(self._held):
            self._leave_out(key)

    def take_left_out(self) -> int:
        """Return how many alarms began too soon after one and were over before they could be told, since last asked."""
        left_out, self._left_out = self._left_out, 0
        return left_out

    def _beginning(self, began: list[Finding], time: float) -> list[Finding]:
        """Return which of the findings, and of those held back, begin at `time`; hold back what begins too soon."""
        found = []
        for finding in began:
            key = (finding.detector, finding.series)
            if self._is_cooling(key, time):
                # Where nobody has noticed yet that the alert was over, it just goes on.
                if key not in self.lasting:
                    self._leave_out(key)
                    self._held[key] = finding
            else:
                found.append(finding)
        cooled = [key for key in self._held if not self._is_cooling(key, time)]
        active = self._active() if cooled else set()
        for key in cooled:
            if key in active:
                found.append(self._held.pop(key))
            else:
                self._leave_out(key)
        for finding in found:
            key = (finding.detector, finding.series)
            self._began[key] = time
            self.lasting.add(key)
        return found

    def _is_cooling(self, key: Key, time: float) -> bool:
        # Ranks' clocks differ, and clocks are set.
        return key in self._began and abs(time - self._began[key]) < COOL_DOWN_S

    def _leave_out(self, key: Key) -> None:
        if self._held.pop(key, None) is not None:
            self._left_out += 1

    def _active(self) -> set[Key]:
        return {(detector, _series_of(detector, series)) for detector, series in self._judge.active}

    def _finding(self, alarm: Alarm, point: Point | None, now: float) -> Finding:
        title, text = title_of(alarm.detector)
        series = _series_of(alarm.detector, alarm.series)
        judged = point if point is not None and point.series == alarm.series else None
        at = point.time if point is not None else now
        return Finding(
            detector=alarm.detector,
            severity=alarm.severity,
            title=title,
            text=text,
            series=series,
            step=alarm.step,
            began_at=datetime.fromtimestamp(at, UTC),
            value=judged.value if judged is not None and math.isfinite(judged.value) else None,
            nonfinite=name_nonfinite(judged.value) if judged is not None and not math.isfinite(judged.value) else "",
            usual=usual_of(self._recent.get(series, ())),
            late=is_late(at, now),
        )


def usual_of(values: Sequence[float]) -> str:
    """Return median and robust standard deviation of values, such as "0.31 ± 0.02"; "" where they are too few."""
    if len(values) < FEWEST_OF_USUAL:
        return ""
    middle, deviation = deviation_of(sorted(values))
    return f"{middle:.3g} ± {deviation:.2g}"


def _series_of(detector: str, series: str) -> str:
    """Return the series of an alarm; a stall is of none."""
    return "" if detector == STALL else series
