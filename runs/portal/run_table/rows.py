"""The rows of the run list, with a number of queries per page instead of per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, OuterRef, Subquery
from django.utils.translation import gettext

from runs.access.roles import display_name
from runs.alerts.wording.texts import reason_of_run
from runs.models import Alert, Run, RunQuerySet, RunState, Series, Severity
from runs.portal.run_table.columns import Cell
from runs.protocol.nonfinite import WRITTEN
from runs.protocol.series_names import LOSS_NAMES
from runs.recording.alerts import LASTING
from runs.recording.liveness import duration_of, percent_of, silent
from runs.recording.queue_places import QueuePlace

# States that are shown with a reason.
TOLD = (RunState.FAILED, RunState.LOST, RunState.STOPPED)
SEVERE_FIRST = tuple(sorted(Severity, key=lambda each: -each.rank))


@dataclass(frozen=True, slots=True)
class AlertBadge:
    """The active alerts of one severity: their number, and a text."""

    severity: str
    count: int
    text: str


@dataclass(frozen=True, slots=True)
class TagLink:
    """A tag of a run, and the query of the list limited to runs that also have this tag."""

    name: str
    query: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list. `percent` is None if the length of the run is unknown."""

    run: Run
    silent: bool
    percent: int | None
    loss: float | None
    loss_nonfinite: str
    duration: timedelta | None
    author: str
    place: QueuePlace | None = None
    alerts: tuple[AlertBadge, ...] = ()
    cells: Sequence[Cell] = ()
    reason: str = ""
    tags: Sequence[TagLink] = ()
    # The lines of the small curve of its loss.
    spark: Sequence[str] = ()


def badges_of(runs: Sequence[Run]) -> dict[int, tuple[AlertBadge, ...]]:
    """Return the active alerts of each run, the most severe first, with one query for all runs."""
    counted = Alert.objects.filter(run__in=[run.pk for run in runs], state__in=LASTING).order_by()
    counts = {
        (run, severity): count for run, severity, count in counted.values_list("run", "severity").annotate(Count("pk"))
    }
    return {
        run.pk: tuple(_badge(each, counts[run.pk, each]) for each in SEVERE_FIRST if (run.pk, each) in counts)
        for run in runs
    }


def _badge(severity: Severity, count: int) -> AlertBadge:
    text = gettext("Open alerts, %(severity)s: %(count)d") % {"severity": severity.label, "count": count}
    return AlertBadge(str(severity), count, text)


def with_loss(runs: RunQuerySet) -> RunQuerySet:
    """Annotate each run with its newest training loss, and join the rows that its line names."""
    newest = Series.objects.filter(run=OuterRef("pk"), name__in=LOSS_NAMES).order_by("-last_time")
    return runs.select_related("project", "recipe", "created_by").annotate(
        loss=Subquery(newest.values("last_value")[:1]),
        loss_nonfinite=Subquery(newest.values("last_nonfinite")[:1]),
        loss_series=Subquery(newest.values("pk")[:1]),
        loss_name=Subquery(newest.values("name")[:1]),
    )


def row_of(
    run: Run,
    now: datetime,
    place: QueuePlace | None = None,
    alerts: tuple[AlertBadge, ...] = (),
    cells: Sequence[Cell] = (),
    tags: Sequence[TagLink] = (),
    spark: Sequence[str] = (),
) -> Row:
    """Return the row of a run that `with_loss` annotated, with its place in the queue, active alerts and more."""
    return Row(
        run=run,
        silent=silent(run, now),
        percent=percent_of(run),
        loss=getattr(run, "loss", None),
        loss_nonfinite=WRITTEN.get(getattr(run, "loss_nonfinite", None) or "", ""),
        duration=duration_of(run, now),
        author=display_name(run.created_by) if run.created_by else "",
        place=place,
        alerts=alerts,
        cells=cells,
        reason=reason_of_run(run) if run.state in TOLD else "",
        tags=tags,
        spark=spark,
    )
