"""What the page of a project shows of its runs. The number of queries does not depend on the number of runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from django.db.models import Count, F, Sum

from runs.access.roles import display_name
from runs.models import Checkpoint, GoalDirection, Project, Run, RunQuerySet, RunState
from runs.protocol.states import LIVE, WAITING
from runs.recording.liveness import gpu_hours_of
from runs.selection.fields import BEST, EPOCH, OF_SERIES, Field, field_of

MOST_BEST = 5
# What a goal may be: a number that a training has measured.
GOALS = (*OF_SERIES, EPOCH, BEST)


@dataclass(frozen=True, slots=True)
class BestRun:
    """A run with the value of the project's goal metric."""

    run: Run
    value: float
    author: str


@dataclass(frozen=True, slots=True)
class Totals:
    """How many runs a project has outside its archive, and what all of its runs used; `stored_bytes` of checkpoints."""

    runs: int
    live: int
    waiting: int
    gpu_hours: float
    checkpoints: int
    stored_bytes: int


def goal_field(project: Project) -> Field | None:
    """Return the field of the project's goal metric, None if there is none."""
    return field_of(project.goal_metric) if project.goal_metric.startswith(GOALS) else None


def best_runs(runs: RunQuerySet, goal: Field, direction: str) -> list[BestRun]:
    """Return those of `runs` with the best values, the best first; of equal ones, the one that was first."""
    valued = runs.annotate(goal=goal.expression()).exclude(goal=None).select_related("created_by")
    value = F("goal").desc() if direction == GoalDirection.HIGHEST else F("goal").asc()
    found = valued.order_by(value, "pk")[:MOST_BEST]
    return [
        BestRun(run, getattr(run, "goal"), display_name(run.created_by) if run.created_by else "")  # noqa: B009
        for run in found
    ]


def list_query(project: Project, goal: Field) -> str:
    """Return the query of the list of the project's runs, sorted by its goal metric and with a column of it."""
    sign = "-" if project.goal_direction == GoalDirection.HIGHEST else ""
    columns = [
        ("column", key) for key in ("state", "name", "progress", goal.key, "loss", "started", "duration", "author")
    ]
    return urlencode([("project", project.slug), ("view", "none"), ("sort", sign + goal.key), *columns])


def totals_of(runs: RunQuerySet, project: Project, now: datetime) -> Totals:
    """Return the numbers of a project, whose `runs` are those outside the archive."""
    counts: dict[str, int] = dict(runs.order_by().values_list("state").annotate(Count("pk")))
    everything = Run.objects.filter(project=project)
    spent = everything.aggregate(total=Sum("gpu_s"))["total"] or 0.0
    holding = everything.filter(gpus_held__gt=0, state__in=(*LIVE, RunState.LOST))
    held = sum((gpu_hours_of(run, now) or 0.0) - run.gpu_s / 3600 for run in holding)
    stored = Checkpoint.objects.filter(run__project=project).aggregate(count=Count("pk"), size=Sum("size_bytes"))
    return Totals(
        runs=sum(counts.values()),
        live=sum(counts.get(state, 0) for state in LIVE),
        waiting=sum(counts.get(state, 0) for state in WAITING),
        gpu_hours=spent / 3600 + held,
        checkpoints=stored["count"],
        stored_bytes=stored["size"] or 0,
    )
