"""Virtual environments of tools below build/, apart from everything that trainings and the portal run with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


class NotInstalled(Exception):
    """pip could not install the requirements; the text says what to do."""


def make_environment(folder: Path, requirements: Path, target: str) -> Path:
    """Install what `requirements` pin into `folder`, unless that has been done; return the Python of it.

    `target` is what to run again, such as `make docs`. Raises `NotInstalled`.
    """
    python = folder / "bin" / "python"
    # A copy of the requirements that the environment holds, written once they are all installed.
    installed = folder / "installed.txt"
    if installed.exists() and installed.read_text() == requirements.read_text():
        return python
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
    return python
