"""The rules of a run as values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from django.db.models import Q

from runs.alerts.rules import Rule
from runs.models import AlertRule, Project, Run

COPIED = (
    "is_on", "severity", "tells", "cool_down_s", "limit", "clear_at", "is_above", "points", "action", "knob", "factor",
    "smallest", "factor_from", "skip_batches", "skip_from", "most_per_hour", "most_per_attempt", "dry_run",
)  # fmt: skip


def rules_of(run: Run) -> tuple[Rule, ...]:
    """Return the rules that people created for a run: its own and those of its project. Costs a query."""
    rows = AlertRule.objects.filter(Q(run=run) | Q(run=None, project=run.project_id))
    return typed(rows)


def rules_of_runs(run_ids: Collection[int]) -> dict[int, tuple[Rule, ...]]:
    """Return the same for each of several runs, without those that do not exist. Costs two queries."""
    project_of = dict(Run.objects.filter(pk__in=run_ids).values_list("pk", "project_id"))
    runs_of: defaultdict[int, list[int]] = defaultdict(list)
    for run_id, project_id in project_of.items():
        runs_of[project_id].append(run_id)
    found: dict[int, list[Rule]] = {run_id: [] for run_id in project_of}
    for row in AlertRule.objects.filter(Q(run__in=project_of) | Q(run=None, project__in=runs_of)):
        rule = as_rule(row)
        for run_id in runs_of[row.project_id] if row.run_id is None else [row.run_id]:
            found[run_id].append(rule)
    return {run_id: tuple(rules) for run_id, rules in found.items()}


def rules_of_project(project: Project) -> tuple[Rule, ...]:
    """Return the rules that people created for all runs of a project. Costs a query."""
    return typed(AlertRule.objects.filter(run=None, project=project))


def typed(rows: Iterable[AlertRule]) -> tuple[Rule, ...]:
    """Return rows as values."""
    return tuple(as_rule(row) for row in rows)


def fields_of(rule: Rule) -> dict[str, Any]:
    """Return the fields to copy into a row for another series: all except detector, series and snooze."""
    return {name: getattr(rule, name) for name in COPIED}


def as_rule(row: AlertRule) -> Rule:
    """Return a row as a value."""
    return Rule(
        detector=row.detector,
        series=row.series,
        is_on=row.is_on,
        severity=str(row.severity),
        tells=row.tells,
        cool_down_s=float(row.cool_down_s),
        snoozed_until=row.snoozed_until.timestamp() if row.snoozed_until else None,
        limit=row.limit,
        clear_at=row.clear_at,
        is_above=row.is_above,
        points=row.points,
        action=str(row.action),
        knob=row.knob,
        factor=row.factor,
        smallest=row.smallest,
        factor_from=row.factor_from,
        skip_batches=row.skip_batches,
        skip_from=row.skip_from,
        most_per_hour=row.most_per_hour,
        most_per_attempt=row.most_per_attempt,
        dry_run=row.dry_run,
        id=row.pk,
        of_run=row.run_id is not None,
    )
