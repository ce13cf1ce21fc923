"""The knobs that somebody has changed in earlier attempts: a script that starts again goes on with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steersman.files.private import write_private

KNOBS_FILE = "knobs.json"
ALL_GROUPS = ""


def write_resumed_knobs(attempt: Path, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Tell the training of the attempt in the folder `attempt` what its knobs were set to, by name and group."""
    write_private(attempt / KNOBS_FILE, json.dumps(values))


def resumed_knobs(attempt: Path) -> dict[str, dict[str, Any]]:
    """Return what was set in earlier attempts, by knob and parameter group; `ALL_GROUPS` stands for each group."""
    try:
        told = json.loads((attempt / KNOBS_FILE).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {name: by_group for name, by_group in told.items() if isinstance(by_group, dict)}
