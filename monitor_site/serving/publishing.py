"""Runs our own commands from our processes, and publishes the recipes before the portal opens."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from runs.models import Recipe
from steersman.files.private import write_private

COMMAND_TIMEOUT_S = 120
# The files that may determine the parameters of recipes; publishing once too often costs three seconds.
RECIPE_SOURCES = ("trainer/worker/*.py", "trainer/recipes/*.py", "steersman/*.py")
PUBLISHED_FILE = "recipes_published"


class CommandFailed(RuntimeError):
    """One of our own commands failed. The text says which, and how it ended."""


def manage(*arguments: str) -> list[str]:
    """Return the command line of `manage.py` with `arguments`."""
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]


def call(*arguments: str) -> str:
    """Run a command of manage.py to its end and return its output; raise `CommandFailed` with its last line."""
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
        raise CommandFailed(f"`manage.py {' '.join(arguments)}` failed: {said[-1] if said else 'it printed nothing'}")
    return done.stdout


def publish_recipes(root: Path, data: Path) -> bool:
    """Publish the recipes unless their sources have not changed since the last time; return whether it was needed.

    It runs in a separate process because it imports torch.
    """
    digest = hashlib.sha256(",".join(settings.STEERSMAN_RECIPES).encode())
    for pattern in RECIPE_SOURCES:
        for path in sorted(root.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    published = data / PUBLISHED_FILE
    if published.exists() and published.read_text() == digest.hexdigest() and Recipe.objects.exists():
        return False
    call("recipes", "--publish")
    write_private(published, digest.hexdigest())
    return True
