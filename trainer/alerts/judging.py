"""Turns stored ticks into alerts that begin and end. No database, no thread and no clock: callers pass the time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from runs.alerts.cooling import Cooling, Key
from runs.alerts.detectors.curve import Curve, deviation_of
from runs.alerts.detectors.judge import BEGAN_IN_LAYER, Judge
from runs.alerts.detectors.kinds import MACHINE, Goal, is_validation
from runs.alerts.detectors.limits import THRESHOLD, LimitDefaults
from runs.alerts.detectors.points import MOST_PER_SECOND, Alarm, Point, shown
from runs.alerts.layers.origin import LayerOrigin
from runs.alerts.rules import STALL, Rule, rule_for, series_of
from runs.alerts.short_numbers import short_number
from runs.alerts.titles import title_of
from runs.protocol.causes import BeganInLayer
from runs.protocol.nonfinite import name_nonfinite
from runs.recording.alerts import Finding, is_late
from steersman.agent.journals.rank_times import RankTimes
from steersman.agent.reporting.redacted_records import SeriesNames
from steersman.records.kinds import EpochRecord, OutcomeRecord, PointRecord, StateRecord, WatchRecord
from steersman.records.point_blocks import PointBlock, Stretch

SET_KNOB, ROLL_BACK, INFO = "set_knob", "roll_back", "info"
# The usual value is computed from exactly this many values before the one that was judged.
USUAL_OF = 64
FEWEST_OF_USUAL = 8
# An alarm may come before the next observation of the layers. After this many, a layer is no longer its cause.
OBSERVATIONS_AFTER = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """The content of a tick: its records, its samples of the machine with their time, and the step of the run.

    `stalled`: the training has not stepped for far longer than usual, without an announcement. `by_rank`: points of
    several ranks that were merged into one, by rank.
    """

    records: Sequence[Stretch] = ()
    system: Mapping[str, float | None] = field(default_factory=dict)
    step: int = 0
    time: float = 0.0
    stalled: bool = False
    by_rank: Sequence[Mapping[int, PointRecord]] = ()


@dataclass(frozen=True, slots=True)
class Explained:
    """New information about an active alert."""

    key: Key
    text: str
    cause: BeganInLayer


class RunJudge:
    """The detectors of one attempt, and their active alarms."""

    def __init__(self, names: SeriesNames, judge: Judge | None = None, rules: Sequence[Rule] = ()) -> None:
        self._names = names
        self._judge = judge or Judge()
        self._rank_times = RankTimes()
        self._recent: dict[str, deque[float]] = {}
        # Series that are logged by step: an epoch has the same values again.
        self._of_steps: set[str] = set()
        self._told = 0
        # Alarms without a known layer, and how often the layers had been observed when they began.
        self._unexplained: dict[Key, int] = {}
        self._rules: tuple[Rule, ...] = ()
        self._now = 0.0
        # The step of the newest judged point.
        self.step = 0
        self._rolled_back_at = 0.0
        # The ids of the rollbacks that were seen.
        self.roll_backs: set[str] = set()
        # Returns the stored curves up to a step, to which the training was rolled back.
        self.curves_at: Callable[[int], Mapping[str, Curve]] = lambda step: {}
        self._cooling: Cooling[Finding] = Cooling(
            lambda finding: (finding.detector, finding.series),
            lambda key: self._rule(*key).cool_down_s,
            self._active,
        )
        self.obey(rules)

    def obey(self, rules: Sequence[Rule]) -> None:
        """Replace the rules by `rules`. Alerts that they switch off end."""
        if tuple(rules) != self._rules:
            self._rules = tuple(rules)
            self._judge.limit_by(self._limit_of)

    def points(self, batch: Batch) -> Iterator[Point]:
        """Yield the points of a batch in order, and pass changes by people to the detectors between them."""
        for record in batch.records:
            match record:
                case PointBlock():
                    yield from self._points_of_block(record)
                case EpochRecord():
                    yield from self._points_of(record)
                case WatchRecord(name=name, goal=goal):
                    (shown_name,) = self._names.stored((name,))
                    self._judge.declare(shown_name, goal)
                case OutcomeRecord(command=command, state="applied") if command == SET_KNOB:
                    self._judge.turned()
                case OutcomeRecord(to_step=int(to_step), id=id):
                    self.roll_backs.add(id or "")
                    self._roll_back(to_step, record.time)
                case StateRecord(state=state) if state != "paused":
                    # The pause is not a gap between points.
                    self._judge.resumed()
        for points in batch.by_rank:
            for rank, milliseconds in self._rank_times.of_step(points).items():
                point = points[rank]
                yield Point(f"rank/{rank}/step_ms", point.step, point.time, milliseconds)
        for name, sample in batch.system.items():
            if sample is not None:
                yield Point(name, batch.step, batch.time, sample)

    def _points_of_block(self, block: PointBlock) -> Iterator[Point]:
        names = self._names.stored(block.names)
        self._of_steps.update(names)
        series = list(zip(names, block.columns, strict=True))
        for place in _shown_places(block):
            step, time = block.steps[place], block.times[place]
            for name, column in series:
                yield Point(name, step, time, column[place])

    def _points_of(self, epoch: EpochRecord) -> Iterator[Point]:
        """Yield values without a step: validation values, and all values if the training logs no steps."""
        for name, value in zip(self._names.stored(tuple(epoch.values)), epoch.values.values(), strict=True):
            if name not in self._of_steps and (is_validation(name) or not self._of_steps):
                yield Point(name, epoch.step, epoch.time, value)

    def continues(self) -> None:
        """Declare that the points continue those of an earlier attempt, or of an earlier supervisor."""
        self._judge.continues()

    def declare(self, goals: Mapping[str, Goal]) -> None:
        """Set the goals that were declared before, by the stored names of series."""
        for series, goal in goals.items():
            self._judge.declare(series, goal)

    def remember(self, curves: Mapping[str, Curve]) -> None:
        """Set the stored curves of earlier points. Call before the first point, after `continues`."""
        for series, curve in curves.items():
            self._judge.remember(series, curve)

    def skip(self) -> None:
        """Record that points were left out, so that the following ones may differ from the earlier ones."""
        self._judge.turned()

    def _roll_back(self, to_step: int, time: float) -> None:
        """Go back to how things were at an earlier step: what the detectors found after it is over, and may return."""
        self._rolled_back_at = time
        self._recent.clear()
        self._unexplained.clear()
        self._cooling.forget()
        self._judge.rolled_back(self.curves_at(to_step))

    def see(self, point: Point, now: float) -> list[Finding]:
        """Judge a point; `now` in seconds since the epoch. Return what begins."""
        if point.time < self._rolled_back_at:
            # Of a busy series, points of before the rollback come at the end of their second.
            return []
        # Steps arrive again: only `silent` reports a stall, while it lasts.
        self._now = now
        if not point.series.startswith(MACHINE):
            self.step = point.step
        began = self._judge.judge(point)
        if began:
            began = [alarm for alarm in began if alarm.detector != STALL]
        found = self._begins(began, point, point.time)
        if math.isfinite(point.value):
            recent = self._recent.get(point.series)
            if recent is None:
                recent = self._recent[point.series] = deque(maxlen=USUAL_OF)
            recent.append(point.value)
        return found

    @property
    def settled(self) -> int | None:
        """The step up to which a fault of the training loss would have been found by now; None if there is no loss."""
        return self._judge.settled

    def recent(self, series: str) -> str:
        """Return the newest values of a series, such as "0.31 ± 0.02", or its newest value; "" if it has none."""
        values = self._recent.get(series)
        return usual_of(values) or short_number(values[-1], 3) if values else ""

    def silent(self, now: float) -> list[Finding]:
        """Return the alerts that begin because no points arrive. Call while the training is stalled."""
        self._now = now
        return self._begins(self._judge.silent(now), None, now)

    def explained(self) -> list[Explained]:
        """Return the layers that caused alarms which began before the latest observation."""
        found = []
        for key, observed in list(self._unexplained.items()):
            passed = self._judge.layers_observed - observed
            if passed > OBSERVATIONS_AFTER or key not in self._cooling.lasting:
                del self._unexplained[key]
            elif passed and (cause := cause_of(self._judge.origin())) is not None:
                del self._unexplained[key]
                found.append(Explained(key, text_of(key[0], cause), cause))
        return found

    def over(self) -> list[Key]:
        """Return the keys of alarms that ended."""
        return self._cooling.over()

    def take_messages(self) -> list[str]:
        """Return the detectors' notes since the last call about detectors that were switched off."""
        new = self._judge.messages[self._told :]
        self._told += len(new)
        return new

    def end(self) -> None:
        """End the judging: alarms that are held back are dropped."""
        self._cooling.end()

    def take_left_out(self) -> int:
        """Return how many alarms, since the last call, began too soon after another and ended before their report."""
        return self._cooling.take_left_out()

    def _rule(self, detector: str, series: str) -> Rule:
        return rule_for(self._rules, detector, series, self._now)

    def _limit_of(self, series: str) -> LimitDefaults | None:
        rule = self._rule(THRESHOLD, series)
        return rule.limit_defaults() if rule.is_on else None

    def _active(self) -> set[Key]:
        keys = {(detector, series_of(detector, series)) for detector, series in self._judge.active}
        return {key for key in keys if self._rule(*key).is_on}

    def _begins(self, alarms: Sequence[Alarm], point: Point | None, time: float) -> list[Finding]:
        if not alarms and not self._cooling.holds_back:
            # Almost always.
            return []
        found = [self._finding(alarm, point) for alarm in alarms]
        on = [each for each in found if self._rule(each.detector, each.series).is_on]
        begun = self._cooling.beginning(on, time)
        observed = self._judge.layers_observed
        if observed:
            unknown = [each for each in begun if each.detector in BEGAN_IN_LAYER and each.cause is None]
            self._unexplained |= {(each.detector, each.series): observed for each in unknown}
        return begun

    def _finding(self, alarm: Alarm, point: Point | None) -> Finding:
        now = self._now
        title, _ = title_of(alarm.detector)
        cause = cause_of(alarm.origin)
        series = series_of(alarm.detector, alarm.series)
        value = alarm.value
        if value is None and point is not None and point.series == alarm.series:
            value = point.value
        at = point.time if point is not None else now
        rule, late = self._rule(alarm.detector, series), is_late(at, now)
        is_snoozed = rule.is_snoozed(now)
        # A single value that came back at once is nothing to go back for.
        is_over = alarm.severity == INFO and rule.action == ROLL_BACK
        return Finding(
            detector=alarm.detector,
            severity=rule.severity or alarm.severity,
            title=title,
            text=text_of(alarm.detector, cause),
            cause=cause,
            series=series,
            step=alarm.step,
            onset=alarm.onset,
            began_at=datetime.fromtimestamp(at, UTC),
            value=value if value is not None and math.isfinite(value) else None,
            nonfinite=name_nonfinite(value) if value is not None and not math.isfinite(value) else "",
            usual=usual_of(self._recent.get(series, ())),
            late=late,
            rule_id=rule.id,
            is_told=rule.tells and not is_snoozed,
            action="" if late or is_snoozed or is_over else rule.action,
        )


def cause_of(origin: LayerOrigin | None) -> BeganInLayer | None:
    """Return the cause of an alert that began in a layer."""
    if origin is None:
        return None
    times = round(origin.times, 2) if math.isfinite(origin.times) else None
    return BeganInLayer(layer=origin.layer, measure=origin.measure, step=origin.step, times=times)


def text_of(detector: str, cause: BeganInLayer | None) -> str:
    """Return the English text of an alert: the meaning of its detector, and the layer where it began if it is known."""
    _, meaning = title_of(detector)
    return meaning if cause is None else f"{meaning} {cause}"


def _shown_places(block: PointBlock) -> Iterator[int]:
    """Yield the indices of a block's points without those of a burst that `thinned` would leave out."""
    if len(block) <= MOST_PER_SECOND:
        yield from range(len(block))
        return
    for _, alike in groupby(range(len(block)), lambda place: math.floor(block.times[place])):
        places = list(alike)
        first, behind = places[0], places[-1] + 1
        if not block.names or len(places) <= MOST_PER_SECOND:
            yield from places
        else:
            yield from (first + place for place in shown([column[first:behind] for column in block.columns]))


def usual_of(values: Sequence[float]) -> str:
    """Return median and robust standard deviation of values, such as "0.31 ± 0.02"; "" if there are too few."""
    if len(values) < FEWEST_OF_USUAL:
        return ""
    middle, deviation = deviation_of(sorted(values))
    return f"{short_number(middle, 3)} ± {short_number(deviation, 2)}"
