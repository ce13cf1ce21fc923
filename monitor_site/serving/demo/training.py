"""The demo's training: a run of the image classifier, controlled through the same commands that people use."""

from __future__ import annotations

from django.utils import timezone

from monitor_site.serving.demo.accounts import PROJECT
from monitor_site.serving.publishing import call
from runs.models import Checkpoint, Run, RunState, Series

RECIPE = "mnist"
# Slow enough that its curves are still moving after a quarter of an hour: an epoch takes 2 to 3 s on one core, so all
# of them take more than half an hour. One thread leaves the other cores to portal and browser.
PARAMETERS = {
    "epochs": "900",
    "width": "24",
    "dropout": "0.5",
    "learning_rate": "0.0008",
    "warmup_steps": "150",
    "save_every": "5",
    "threads": "1",
}


def create_run(parameters: dict[str, str], user: str) -> int:
    """Queue a run of the image classifier and return its id."""
    chosen = [word for name, value in (PARAMETERS | parameters).items() for word in ("--set", f"{name}={value}")]
    name = f"MNIST demo {timezone.localtime():%Y-%m-%d %H:%M}"
    printed = call(
        "create_run", "--quiet", "--project", PROJECT, "--recipe", RECIPE, "--name", name, "--user", user, "--queue",
        *chosen,
    )  # fmt: skip
    return int(printed)


def has_points(run_id: int) -> bool:
    return Run.objects.filter(pk=run_id, last_point_at__isnull=False).exists()


def describe(run: Run) -> str:
    """Return a line with state, progress and the newest values of the run."""
    parts = [f"run {run.pk}", run.get_state_display()]
    if run.total_epochs:
        parts.append(f"epoch {run.epoch} of {run.total_epochs}")
    parts.append(f"step {run.step:,}")
    latest = dict(Series.objects.filter(run=run).values_list("name", "last_value"))
    loss = latest.get("train/loss")
    if loss is not None:
        parts.append(f"loss {loss:.4f}")
    if run.best_metric is not None:
        parts.append(f"best {run.best_metric_name.removeprefix('validation_')} {run.best_metric:.3f}")
    return " · ".join(parts)


def describe_end(run_id: int) -> str:
    """Return a sentence about the end of the training, and the step from which it can resume."""
    run = Run.objects.get(pk=run_id)
    checkpoint = Checkpoint.objects.filter(run=run).order_by("-id").first()
    text = f"Training: {run.get_state_display()} at step {run.step:,}"
    if checkpoint is None:
        return text + ", without a checkpoint."
    text += f", checkpoint saved at step {checkpoint.step:,}."
    if run.state in (RunState.STOPPED, RunState.FAILED, RunState.LOST):
        text += f" `manage.py train --run-id {run_id}` resumes from there."
    return text
