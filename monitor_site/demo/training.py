"""The demo's training: a run of the image classifier, started and read by the same commands that a person has."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from monitor_site.demo.accounts import PROJECT
from runs.models import Checkpoint, Recipe, Run, RunState, Series

RECIPE = "mnist"
# Slow enough that its curves are still moving after a quarter of an hour (an epoch takes 2 to 3 s on one core, so all
# of them more than half an hour); one thread leaves the other cores to portal and browser.
PARAMETERS = {
    "epochs": "900",
    "width": "24",
    "dropout": "0.5",
    "learning_rate": "0.0008",
    "warmup_steps": "150",
    "save_every": "5",
    "threads": "1",
}
COMMAND_TIMEOUT_S = 120
# What may decide which parameters the recipes declare; publishing once too often costs three seconds.
RECIPE_SOURCES = ("trainer/*.py", "trainer/recipes/*.py", "coxswain/*.py")
PUBLISHED_FILE = "recipes_published"


class CommandFailed(RuntimeError):
    """One of our own commands failed; the text says which, and how it ended."""


def manage(*arguments: str) -> list[str]:
    """Return the command line of `manage.py` with `arguments`."""
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]


def call(*arguments: str) -> str:
    """Run a command of manage.py to its end and return what it printed; raise `CommandFailed` with its last line."""
    done = subprocess.run(
        manage(*arguments),
        cwd=settings.BASE_DIR,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        start_new_session=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise CommandFailed(f"`manage.py {' '.join(arguments)}` failed: {said[-1] if said else 'it said nothing'}")
    return done.stdout


def publish_recipes(root: Path, data: Path) -> bool:
    """Publish the built-in recipes unless their sources are those published last; tell whether it was needed.

    It is a process of its own because it imports torch.
    """
    digest = hashlib.sha256()
    for pattern in RECIPE_SOURCES:
        for path in sorted(root.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    published = data / PUBLISHED_FILE
    if (
        published.exists()
        and published.read_text() == digest.hexdigest()
        and Recipe.objects.filter(spec=RECIPE).exists()
    ):
        return False
    call("recipes", "--publish")
    published.write_text(digest.hexdigest())
    return True


def create_run(parameters: dict[str, str], user: str) -> int:
    """Record a run of the image classifier and return its id."""
    chosen = [word for name, value in (PARAMETERS | parameters).items() for word in ("--set", f"{name}={value}")]
    name = f"MNIST demo {timezone.localtime():%Y-%m-%d %H:%M}"
    printed = call("create_run", "--project", PROJECT, "--recipe", RECIPE, "--name", name, "--user", user, *chosen)
    return int(printed.split()[-1])


def has_points(run_id: int) -> bool:
    return Run.objects.filter(pk=run_id, last_point_at__isnull=False).exists()


def describe(run: Run) -> str:
    """Return one line: state, progress and the newest values of the run."""
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
    """Return a sentence on how the training ended, and where it can go on."""
    run = Run.objects.get(pk=run_id)
    checkpoint = Checkpoint.objects.filter(run=run).order_by("-id").first()
    text = f"Training: {run.get_state_display()} at step {run.step:,}"
    if checkpoint is None:
        return text + ", without a checkpoint."
    text += f", checkpoint saved at step {checkpoint.step:,}."
    if run.state in (RunState.STOPPED, RunState.FAILED, RunState.LOST):
        text += f" `manage.py train --run-id {run_id}` goes on from there."
    return text
