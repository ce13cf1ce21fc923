"""Rules of alerts as values: the defaults, and the precedence of several rules. No Django and no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from runs.alerts.detectors.limits import THRESHOLD, LimitDefaults

STALL = "stall"
# Detectors of the state of a run as a whole. They do not judge points, so they can neither be tried on the past nor
# act.
CRASH, RESTART, LOST, DISK = OF_STATE = ("crash", "restart", "lost", "disk")
# In seconds of the training's time. After an alert of a detector and a series begins, no other begins for this long.
COOL_DOWN_S = 60.0
# Matches any text in the `series` of a rule.
ANY = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """Has the fields of `runs.models.AlertRule` with these names; a rule without `id` is a default.

    The `severity` "" is the default of the detector. `snoozed_until` is in seconds since the epoch; alerts of a snoozed
    rule are recorded, but send no messages and have no action. `of_run`: the rule belongs to one run instead of the
    project.
    """

    detector: str
    series: str = ""
    is_on: bool = True
    severity: str = ""
    tells: bool = True
    cool_down_s: float = COOL_DOWN_S
    snoozed_until: float | None = None
    limit: float | None = None
    clear_at: float | None = None
    is_above: bool = True
    points: int = 1
    action: str = ""
    knob: str = ""
    factor: float | None = None
    smallest: float | None = None
    # From which rollback for a fault on the knob is scaled, and batches are skipped.
    factor_from: int = 1
    skip_batches: int = 0
    skip_from: int = 1
    most_per_hour: int = 1
    # None: no limit.
    most_per_attempt: int | None = 1
    dry_run: bool = True
    id: int | None = None
    of_run: bool = False

    @property
    def name(self) -> str:
        """The name for people: the detector, and the series if it is limited to some."""
        return f"{self.detector} {self.series}".strip()

    def makes_too_small(self, values: Iterable[float]) -> bool:
        """Return whether scaling any of `values` would go below the minimum of the rule."""
        if self.smallest is None or self.factor is None:
            return False
        return any(value * self.factor < self.smallest for value in values)

    @property
    def is_of_state(self) -> bool:
        """Whether it concerns the state of a run as a whole instead of a series."""
        return self.detector in OF_STATE

    @property
    def has_limit(self) -> bool:
        """Whether it belongs to the detector of limits that people set."""
        return self.detector == THRESHOLD

    def matches(self, detector: str, series: str) -> bool:
        """Return whether it applies to alerts of `detector` in `series`."""
        return self.detector == detector and (not self.series or _fits(self.series, series))

    def is_snoozed(self, now: float) -> bool:
        """Return whether it is snoozed at `now`, in seconds since the epoch."""
        return self.snoozed_until is not None and now < self.snoozed_until

    def limit_defaults(self) -> LimitDefaults | None:
        """Return the limit of a rule of the detector "threshold", None if it has none."""
        if not self.has_limit or self.limit is None:
            return None
        clear_at = self.limit if self.clear_at is None else self.clear_at
        return LimitDefaults(self.limit, clear_at, above=self.is_above, points=self.points)


# Off by default: detectors that also fire in healthy trainings, or that need a limit. Not notified: alerts that are not
# urgent. Machines change slowly, so their alerts repeat after an hour at the earliest.
DEFAULT_RULES: dict[str, Rule] = {
    rule.detector: rule
    for rule in (
        Rule("non-finite"),
        Rule("spike"),
        Rule("divergence"),
        Rule("weight-growth"),
        Rule("plateau", tells=False, cool_down_s=600.0),
        Rule("overfitting", cool_down_s=600.0),
        Rule(THRESHOLD),
        Rule(STALL, cool_down_s=300.0),
        Rule("throughput", tells=False, cool_down_s=600.0),
        Rule("rank-lag", tells=False, cool_down_s=600.0),
        Rule("data-bound", tells=False, cool_down_s=600.0),
        Rule("gpu-idle", tells=False, cool_down_s=600.0),
        Rule("gpu-hot", cool_down_s=600.0),
        Rule("gpu-throttled", tells=False, cool_down_s=600.0),
        Rule("gpu-memory", tells=False, cool_down_s=600.0),
        Rule(CRASH, cool_down_s=0.0),
        Rule(RESTART, cool_down_s=0.0),
        Rule(LOST, cool_down_s=0.0),
        Rule(DISK, cool_down_s=0.0),
    )
}


# The detectors for which recovery is offered.
RECOVERED = ("non-finite", "spike", "divergence", "weight-growth")


def recovery_rule(detector: str) -> Rule:
    """Return the rule that is offered for a recovery: a dry run, until somebody has tried it.

    The first rollback for a fault changes nothing, since most faults pass. If the fault returns, the batches around it
    are left out, as by Chowdhery et al. (*PaLM*, 2022, section 5.1). Only after that the learning rate is halved.
    """
    return replace(
        default_of(detector), action="roll_back", knob="learning_rate", factor=0.5, smallest=1e-7, factor_from=3,
        skip_batches=10, skip_from=2, most_per_hour=3, most_per_attempt=10, dry_run=True,
    )  # fmt: skip


def series_of(detector: str, series: str) -> str:
    """Return the series of an alert; a stall has none."""
    return "" if detector == STALL else series


def default_of(detector: str) -> Rule:
    """Return the default rule of a detector. A detector without an entry is on, and notifies people."""
    return DEFAULT_RULES.get(detector) or Rule(detector)


def rule_for(rules: Iterable[Rule], detector: str, series: str, now: float) -> Rule:
    """Return the rule that applies to `detector` in `series`, or the default of the detector.

    A rule of the run precedes one of the project, then a rule with `series` one without; of several with `series`, the
    one that names more characters of it wins. A snooze that is over at `now` is removed from the result.
    """
    found = max((rule for rule in rules if rule.matches(detector, series)), key=_precedence, default=None)
    rule = found or default_of(detector)
    if rule.snoozed_until is not None and not rule.is_snoozed(now):
        return replace(rule, snoozed_until=None)
    return rule


def _precedence(rule: Rule) -> tuple[bool, bool, bool, int, int]:
    named = rule.series.replace(ANY, "")
    return rule.of_run, bool(rule.series), bool(rule.series) and ANY not in rule.series, len(named), -(rule.id or 0)


def _fits(pattern: str, series: str) -> bool:
    """Return whether a series matches. A regular expression with many `*` could take exponential time."""
    first, *others = pattern.split(ANY)
    if not others:
        return series == pattern
    last = others.pop()
    place, end = len(first), len(series) - len(last)
    if end < place or not series.startswith(first) or not series.endswith(last):
        return False
    for part in others:
        place = series.find(part, place, end)
        if place < 0:
            return False
        place += len(part)
    return True
