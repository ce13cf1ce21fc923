"""The run and number of an attempt, from the path of its folder: `runs/7/attempts/2` is the second attempt of run 7."""

from __future__ import annotations

from pathlib import Path

ATTEMPTS = "attempts"
# The folder for files of a run's script, which stay across attempts.
FILES = "files"


def origin_path(step: int) -> str:
    """Return where a run that began at a checkpoint of another run has its copy, relative to the run's folder."""
    return f"{ATTEMPTS}/0/checkpoints/step-{step:08d}"


def run_folder_of(attempt: Path) -> Path:
    """Return the folder of an attempt's run; an attempt outside of a run's folder is its own run."""
    return attempt.parent.parent if attempt.parent.name == ATTEMPTS else attempt


def number_of(attempt: Path) -> int:
    """Return the number of an attempt, from 1."""
    return int(attempt.name) if attempt.parent.name == ATTEMPTS and attempt.name.isdecimal() else 1


def files_of(attempt: Path) -> Path:
    """Return the folder for the files of a run's script."""
    return run_folder_of(attempt) / FILES
