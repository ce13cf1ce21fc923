"""Tries rules on the recorded points of a run, and returns the steps at which alerts would have begun."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from runs.alerts.cooling import Cooling, Key
from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.kinds import Goal
from runs.alerts.detectors.limits import THRESHOLD
from runs.alerts.detectors.points import Alarm, Point, thinned
from runs.alerts.rules import Rule, rule_for, series_of
from runs.models import CommandState, Run
from runs.protocol.commands import Resume, SetKnob
from runs.series.newest import newest_points
from runs.series.packing.chunks import Points, join_points

# For all series together, in equal shares. A point takes a few microseconds, so a person waits about a second.
MOST_POINTS = 100_000
FEWEST_EACH = 100
BUDGET_S = 2.0
LOOK_EVERY = 256
# All trials of rules share one core, so that the other cores can serve pages.
_TURN = threading.Lock()


@dataclass(frozen=True, slots=True)
class Fired:
    """An alert that would have begun: its rule, its step, and the time in seconds since the epoch."""

    rule: Rule
    series: str
    attempt: int
    step: int
    time: float


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The alerts that rules would have begun on the recorded points of a run, ordered by time.

    `points` is the number of judged points. `left_out` older ones were not judged, nor `unseen` newer ones for which
    there was no time.
    """

    fired: tuple[Fired, ...] = ()
    points: int = 0
    left_out: int = 0
    unseen: int = 0

    def of(self, rule: Rule) -> list[Fired]:
        """Return the alerts that `rule` would have begun."""
        return [each for each in self.fired if each.rule == rule]


def try_rule(run: Run, rule: Rule, clock: Callable[[], float] = time.monotonic) -> TrialResult:
    """Return the alerts of `rule` alone, whether it is switched on or not and whatever other rules there are."""
    result = try_rules(run, [rule], clock)
    return replace(result, fired=tuple(result.of(rule)))


def try_rules(run: Run, rules: Sequence[Rule], clock: Callable[[], float] = time.monotonic) -> TrialResult:
    """Return the alerts that would have begun under `rules` and the defaults; rules that are off count as on.

    Each attempt is judged separately, on the points that a live judge gets. Bounded by `MOST_POINTS` and by `BUDGET_S`
    seconds of `clock`.
    """
    names = list(run.series.values_list("name", flat=True))
    newest = newest_points(run.pk, names, max(FEWEST_EACH, MOST_POINTS // max(1, len(names))))
    deadline = clock() + BUDGET_S
    fired: list[Fired] = []
    goals = dict(run.attempts.values_list("number", "goals"))
    total = unseen = 0
    for attempt in sorted({attempt for attempt, _ in newest.points}):
        points = _in_order({name: found for (number, name), found in newest.points.items() if number == attempt})
        total += len(points)
        trial = _Trial(rules, attempt, _changes(run, attempt), goals.get(attempt, {}))
        passing = trial.passing(points)
        while some := list(islice(passing, LOOK_EVERY)):
            with _TURN:
                for point in some:
                    fired += trial.see(point)
            if clock() > deadline:
                unseen += sum(each.time > some[-1].time for each in points)
                break
    return TrialResult(tuple(fired), total - unseen, newest.left_out, unseen)


def _in_order(series: dict[str, Points]) -> list[Point]:
    """Return the points of several series ordered by time, and by step within one moment."""
    if not series:
        return []
    names = list(series)
    which = np.repeat(np.arange(len(names)), [len(found) for found in series.values()])
    together = join_points(list(series.values()))
    order = np.lexsort((together.steps, together.times_ms))
    columns = (which[order], together.steps[order], together.times_ms[order] / 1000, together.values[order])
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [Point(names[place], step, moment, value) for place, step, moment, value in rows]


def _changes(run: Run, attempt: int) -> list[tuple[float, str]]:
    """Return the changes by people that widen bands, each with its time in seconds since the epoch."""
    applied = run.commands.filter(state=CommandState.APPLIED, attempt=attempt, kind__in=(SetKnob.kind, Resume.kind))
    moments = applied.order_by("applied_at").values_list("applied_at", "kind")
    return [(at.timestamp(), kind) for at, kind in moments if at is not None]


def _key_of(alarm: Alarm) -> Key:
    return alarm.detector, series_of(alarm.detector, alarm.series)


class _Trial:
    """One attempt, judged as if it were running now."""

    def __init__(
        self, rules: Sequence[Rule], attempt: int, changes: list[tuple[float, str]], goals: Mapping[str, Goal]
    ) -> None:
        # A trial only asks whether an alert begins, not whether destinations are notified.
        self._rules = [replace(rule, snoozed_until=None) for rule in rules]
        self._given = dict(zip(self._rules, rules, strict=True))
        self._attempt = attempt
        self._changes = deque(changes)
        self._judge = Judge(goals)
        self._judge.limit_by(lambda series: self._rule(THRESHOLD, series).limit_defaults())
        self._cooling: Cooling[Alarm] = Cooling(
            _key_of,
            lambda key: self._rule(*key).cool_down_s,
            lambda: {(detector, series_of(detector, series)) for detector, series in self._judge.active},
        )

    def passing(self, points: Iterable[Point]) -> Iterator[Point]:
        """Yield those of `points` that a live judge gets; between them, notify detectors of changes by people."""
        yield from thinned(self._with_changes(points))

    def see(self, point: Point) -> list[Fired]:
        """Judge a point; return the alerts that begin."""
        began = self._cooling.beginning(self._judge.judge(point), point.time)
        self._cooling.over()
        return [self._fired(alarm, point) for alarm in began]

    def _fired(self, alarm: Alarm, point: Point) -> Fired:
        _, series = _key_of(alarm)
        rule = self._rule(alarm.detector, series)
        return Fired(self._given.get(rule, rule), series, self._attempt, alarm.step, point.time)

    def _with_changes(self, points: Iterable[Point]) -> Iterator[Point]:
        for point in points:
            while self._changes and self._changes[0][0] <= point.time:
                _, kind = self._changes.popleft()
                (self._judge.turned if kind == SetKnob.kind else self._judge.resumed)()
            yield point

    def _rule(self, detector: str, series: str) -> Rule:
        return rule_for(self._rules, detector, series, 0.0)
