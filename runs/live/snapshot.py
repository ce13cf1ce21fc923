"""The state of a run for a new viewer: the `run` and `latest` parts of `hello`."""

from __future__ import annotations

from typing import Any

import msgspec
from django.db.models import Count

from runs.models import EpochMetric, Run, Series, Severity, as_wire
from runs.protocol.events import iso
from runs.recording.alerts import LASTING
from runs.recording.status import status_of


def run_snapshot(run: Run) -> dict[str, Any]:
    """Return the run's status, progress, knobs and latest commands, as JSON-ready values.

    They include all fields of `runs.protocol.events.StatusChanged` except `remark`.
    """
    commands = run.commands.order_by("-sent_at")[:20]
    status: dict[str, Any] = msgspec.to_builtins(status_of(run))
    del status["remark"]
    return status | {
        "id": run.pk,
        "name": run.name,
        "project": run.project.name,
        "recipe": run.recipe.spec if run.recipe else "",
        "created_at": iso(run.created_at),
        "last_point_at": iso(run.last_point_at) if run.last_point_at else None,
        "step": run.step,
        "epoch": run.epoch,
        "best_metric": run.best_metric,
        "best_metric_name": run.best_metric_name,
        "best_epoch": run.best_epoch,
        "knobs": run.knobs,
        "stalled_since": iso(run.stalled_since) if run.stalled_since else None,
        # Explains a stall. It changes with every step, so no event contains it.
        "usual_step_s": run.usual_step_s if run.stalled_since else None,
        "lasting_alerts": lasting_alerts(run),
        "commands": [as_wire(command) for command in reversed(commands)],
    }


def lasting_alerts(run: Run) -> dict[str, int]:
    """Return how many alerts of each severity are not cleared."""
    counted = run.alerts.filter(state__in=LASTING).order_by().values_list("severity").annotate(Count("pk"))
    return dict.fromkeys(map(str, Severity), 0) | dict(counted)


def latest_values(run: Run) -> dict[str, dict[str, Any]]:
    """Return the newest point of every series: step, time (s, UTC), value (null and `nonfinite` if it is not finite).

    The series are in the order in which they were first logged.
    """
    return {
        series.name: {
            "step": series.last_step,
            "time": series.last_time,
            "value": series.last_value,
            "nonfinite": series.last_nonfinite,
        }
        for series in Series.objects.filter(run=run).order_by("pk")
    }


def epoch_as_wire(epoch: EpochMetric) -> dict[str, Any]:
    """Return the fields of `runs.protocol.events.EpochDone` for the epoch of this row."""
    return {
        "attempt": epoch.attempt,
        "epoch": epoch.epoch,
        "order": epoch.order,
        "step": epoch.step,
        "duration_s": epoch.duration_s,
        "best": epoch.best,
        "abandoned": epoch.abandoned,
        "values": epoch.reported,
        "nonfinite": epoch.nonfinite,
    }
