"""The git working tree of a script: its commit, and the differences from it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

# A working directory on a network disk must not delay a training.
GIT_TIMEOUT_S = 5.0
# A larger patch contains data, not source. A truncated patch could not be applied.
LARGEST_PATCH_BYTES = 256 * 1024


def git_revision(folder: Path) -> dict[str, Any] | None:
    """Return commit, branch and whether files differ from it; None outside a git working tree or without git."""
    commit = _git(folder, "rev-parse", "HEAD").strip()
    if not commit:
        return None
    return {
        "commit": commit,
        "branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD").strip(),
        "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
    }


def uncommitted_changes(folder: Path) -> str:
    """Return the differences from the commit in tracked files, for `git apply` at the top of the tree."""
    return _git(folder, "-c", "core.quotepath=off", "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv")


def _git(folder: Path, *arguments: str) -> str:
    # Without optional locks, because reading the status must not write into a repository that others use.
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        answer = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""
