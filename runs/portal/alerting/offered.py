"""The choices in the form of a rule: the series and knobs that the runs have."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from runs.alerts.detectors.pace import RankLag
from runs.alerts.rulebook.recovering import knob_numbers
from runs.alerts.rules import Rule
from runs.models import Project, Run, RunQuerySet, Series
from runs.protocol.series_names import natural_key

# Only the newest runs of a project are read, and the number of options is limited, so that a phone can show them.
NEWEST_RUNS = 20
MOST_OFFERED = 500


@dataclass(frozen=True, slots=True)
class Offered:
    """Names of series and of knobs with a number as value, in natural order."""

    series: tuple[str, ...] = ()
    knobs: tuple[str, ...] = ()

    @property
    def series_listed(self) -> tuple[str, ...]:
        return self.series[:MOST_OFFERED]

    @property
    def knobs_listed(self) -> tuple[str, ...]:
        return self.knobs[:MOST_OFFERED]

    def note_on_series(self, rule: Rule) -> str:
        """Return a sentence if no run has a series of the rule, or "".

        The step times of ranks are judged but not stored, so they cannot be checked.
        """
        if not rule.series or rule.detector == RankLag.name:
            return ""
        if any(rule.matches(rule.detector, name) for name in self.series):
            return ""
        return _("No recent run has logged such a series. The rule applies as soon as one does.")

    def note_on_knob(self, knob: str) -> str:
        """Return a sentence if no run has a scalable knob of this name, or ""."""
        if not knob or knob in self.knobs:
            return ""
        return _("No run has a numeric knob of this name. The rule applies as soon as one does.")


def newest_runs(project: Project) -> list[Run]:
    """Return the newest runs of a project that have logged something, the newest first."""
    runs: RunQuerySet = Run.objects.filter(project=project, archived_at=None).exclude(last_point_at=None)
    return list(runs.order_by("-pk")[:NEWEST_RUNS])


def offered_by(project: Project, run: Run | None) -> Offered:
    """Return the series and knobs of a run, or of the newest runs of its project if the run has none yet."""
    own = _of([run]) if run is not None else Offered()
    if own.series and own.knobs:
        return own
    others = _of(newest_runs(project))
    return Offered(own.series or others.series, own.knobs or others.knobs)


def _of(runs: list[Run]) -> Offered:
    series = Series.objects.filter(run__in=runs).order_by().values_list("name", flat=True).distinct()
    knobs = {knob["name"] for run in runs for knob in run.knobs if knob_numbers(run, knob["name"])}
    return Offered(tuple(sorted(series, key=natural_key)), tuple(sorted(knobs, key=natural_key)))
