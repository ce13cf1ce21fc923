"""The task of a recipe's worker: written by the supervisor, read by `trainer.worker.main`. No Django, no torch."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from steersman.files.private import write_private


@dataclass(frozen=True, slots=True)
class Task:
    """A task from the supervisor: one attempt at one run."""

    run: int
    attempt: int
    recipe: str
    parameters: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    seed: int = 0
    deterministic: bool = False
    checkpoint: dict[str, str] | None = None
    # Whether the checkpoint belongs to another run, of which this one is a branch.
    is_branch: bool = False
    extra_epochs: int = 0
    inline: bool = False


def write_task(task: Task, folder: Path) -> Path:
    """Write the task of the recipe's worker, and return the file."""
    path = folder / "task.json"
    write_private(path, json.dumps(asdict(task), indent=1))
    return path


def read_task(path: Path) -> Task:
    return Task(**json.loads(path.read_text()))


def recipe_command(task_file: Path) -> list[str]:
    return [sys.executable, "-u", "-m", "trainer.worker.main", str(task_file)]
