"""The values that commands set in earlier attempts, by knob and parameter group, in the folder of an attempt.

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from steersman.files.private import write_private

CHANGED_KNOBS_FILE = "changed_knobs.json"
# The key for the value of all groups, instead of the name of a parameter group.
EVERY_GROUP = ""

# The types of JSON. The knob checks the value.
PlainValue = bool | int | float | str
ChangedKnobs = dict[str, dict[str, PlainValue]]


def write_changed_knobs(attempt: Path, changed: Mapping[str, Mapping[str, PlainValue]]) -> None:
    """Write the last values of the run's knobs for the training of the attempt in the folder `attempt`."""
    write_private(attempt / CHANGED_KNOBS_FILE, json.dumps(changed))


def read_changed_knobs(attempt: Path) -> ChangedKnobs | None:
    """Return the values that `write_changed_knobs` wrote, None if there are none or the file is damaged."""
    try:
        told = json.loads((attempt / CHANGED_KNOBS_FILE).read_text())
        return {str(name): dict(by_group) for name, by_group in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
