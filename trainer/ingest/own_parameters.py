"""What a script says that it was configured with, as the run's parameters. Never imports torch."""

from __future__ import annotations

from typing import Any

from runs.models import Run
from steersman.agent.machine.redactor import Redactor, as_stored
from steersman.agent.machine.secret_values import secret_texts
from steersman.records.own_kinds import MOST_PARAMETERS, ParametersRecord

OF_RECIPE = "The run has a recipe: its parameters are those that it was created with; what was told later is left out."


def store_parameters(run_id: int, record: ParametersRecord, redactor: Redactor) -> str:
    """Add parameters to those of a run, later ones in place of earlier ones; return what to tell, "" if nothing."""
    run = Run.objects.get(pk=run_id)
    if run.recipe_id is not None:
        return OF_RECIPE
    merged = run.parameters | {as_stored(name): redacted(redactor, name, v) for name, v in record.parameters.items()}
    kept = dict(list(merged.items())[:MOST_PARAMETERS])
    Run.objects.filter(pk=run_id).update(parameters=kept)
    left_out = len(merged) - len(kept)
    return f"{left_out} parameters were left out: a run has at most {MOST_PARAMETERS}." if left_out else ""


def redacted(redactor: Redactor, name: str, value: Any) -> Any:
    """Return a value without paths, hosts and secrets. Names of parameters are what people compare by: they stay."""
    if isinstance(value, dict):
        return {as_stored(key): redacted(redactor, key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted(redactor, name, item) for item in value]
    shown = redactor.environment(value)
    if isinstance(shown, str):
        for secret, mask in secret_texts({name: shown}).items():
            shown = shown.replace(secret, mask)
    return shown
