"""Stores the configuration of a script as the run's parameters."""

from __future__ import annotations

from runs.models import Run
from steersman.records.own_kinds import MOST_PARAMETERS, ParametersRecord

OF_RECIPE = "The run has a recipe, so its parameters were set when it was created: configure() does not change them."


def store_parameters(run_id: int, record: ParametersRecord) -> str:
    """Add parameters to those of a run, replacing earlier values; return a remark, "" if there is none."""
    run = Run.objects.get(pk=run_id)
    if run.recipe_id is not None:
        return OF_RECIPE
    merged = run.parameters | record.parameters
    kept = dict(list(merged.items())[:MOST_PARAMETERS])
    Run.objects.filter(pk=run_id).update(parameters=kept)
    left_out = len(merged) - len(kept)
    return f"{left_out} parameters were left out: a run has at most {MOST_PARAMETERS}." if left_out else ""
