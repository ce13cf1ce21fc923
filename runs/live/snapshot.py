"""What a viewer needs to know about a run at once: the `run` and `latest` parts of `hello`."""

from __future__ import annotations

from typing import Any

from runs.models import Attempt, EpochMetric, Run, Series, as_wire
from runs.protocol.events import iso


def run_snapshot(run: Run) -> dict[str, Any]:
    """Return the run's state, progress, last epoch, latest commands and end, as JSON-ready values."""
    last_epoch = run.epochs.order_by("-epoch", "-attempt").first()
    last_attempt = run.attempts.order_by("-number").first()
    commands = run.commands.order_by("-sent_at")[:20]
    return {
        "id": run.pk,
        "name": run.name,
        "project": run.project.name,
        "recipe": run.recipe.spec if run.recipe else "",
        "state": str(run.state),
        "reason": run.reason,
        "attempt": run.attempt,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at) if run.started_at else None,
        "ended_at": iso(run.ended_at) if run.ended_at else None,
        "last_point_at": iso(run.last_point_at) if run.last_point_at else None,
        "step": run.step,
        "epoch": run.epoch,
        "total_steps": run.total_steps,
        "total_epochs": run.total_epochs,
        "steps_per_epoch": run.steps_per_epoch,
        "best_metric": run.best_metric,
        "best_metric_name": run.best_metric_name,
        "best_epoch": run.best_epoch,
        "last_epoch": epoch_as_wire(last_epoch) if last_epoch else None,
        "end": _end(last_attempt),
        "knobs": run.knobs,
        "ranks": last_attempt.ranks if last_attempt else run.ranks,
        "stalled_since": iso(run.stalled_since) if run.stalled_since else None,
        "usual_step_s": run.usual_step_s,
        "restarts": run.restarts,
        "restarts_used": run.restarts_used,
        "commands": [as_wire(command) for command in reversed(commands)],
    }


def latest_values(run: Run) -> dict[str, dict[str, Any]]:
    """Return the newest point of every series: step, time (s, UTC), value (null with `nonfinite` where not finite).

    Series come in the order in which they were first logged.
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
    """Return the fields of `runs.protocol.events.EpochDone` for this row."""
    columns = {name: getattr(epoch, name) for name in EpochMetric.COLUMNS}
    reported = {name: value for name, value in columns.items() if value is not None or name in epoch.nonfinite}
    return {
        "attempt": epoch.attempt,
        "epoch": epoch.epoch,
        "step": epoch.step,
        "duration_s": epoch.duration_s,
        "best": epoch.best,
        "values": reported | epoch.extra,
        "nonfinite": epoch.nonfinite,
    }


def _end(attempt: Attempt | None) -> dict[str, Any] | None:
    if attempt is None or attempt.ended_at is None:
        return None
    return {
        "attempt": attempt.number,
        "outcome": attempt.outcome,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "error": attempt.error,
    }
