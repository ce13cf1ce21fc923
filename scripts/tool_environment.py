"""Create virtual environments of tools below build/, separate from the environment of trainings and portal."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path


class NotInstalled(Exception):
    """pip could not install the requirements; the text says what to do."""


def make_environment(folder: Path, requirements: Path, target: str) -> Path:
    """Install the pinned `requirements` into `folder`, unless that has been done; return the Python of the environment.

    `target` is the command to run again, such as `make docs`. Raises `NotInstalled`.
    """
    python = folder / "bin" / "python"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f"{folder.name}.lock", "w") as lock:
        # Two targets or tests that start at the same time would install into the same files.
        fcntl.lockf(lock, fcntl.LOCK_EX)
        _install(folder, python, requirements, target)
    return python


def _install(folder: Path, python: Path, requirements: Path, target: str) -> None:
    # A copy of the installed requirements, written after all of them are installed.
    installed = folder / "installed.txt"
    if installed.exists() and installed.read_text() == requirements.read_text():
        return
    print(f"Installing {requirements.name} into {folder}.", flush=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--requirement", str(requirements)], check=True)
    except subprocess.CalledProcessError as error:
        raise NotInstalled(
            f"pip could not install {requirements} (exit code {error.returncode}).\n"
            f"Check the network and the setting of pip's index, and run `{target}` again."
        ) from error
    shutil.copy(requirements, installed)
