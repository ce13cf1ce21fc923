"""The project's former name, Coxswain: its variables and its data folder no longer have an effect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FORMER_PREFIX, PREFIX = "COXSWAIN_", "STEERSMAN_"
FORMER_FOLDER, FOLDER = ".coxswain", ".steersman"


def former_name_notice(environment: Mapping[str, str], base: Path) -> str:
    """Return in one sentence which variables and which data folder under `base` have the former name, "" if none."""
    variables = sorted(name for name in environment if name.startswith(FORMER_PREFIX))
    folder = base / FORMER_FOLDER
    parts = []
    if variables:
        renamed = ", ".join(f"{name} to {PREFIX}{name.removeprefix(FORMER_PREFIX)}" for name in variables)
        parts.append(f"rename the environment variable{'s' if len(variables) > 1 else ''} {renamed}")
    if folder.is_dir():
        parts.append(f"data in {folder} is not read: {FOLDER} is used (delete the old one to end this notice)")
    return f"Coxswain is called Steersman now: {', and '.join(parts)}." if parts else ""
