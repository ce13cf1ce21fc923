"""The values that commands set in earlier attempts, by knob and parameter group, in the folder of an attempt.

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steersman.files.private import write_private

CHANGED_KNOBS_FILE = "changed_knobs.json"
# The key for the value of all groups, instead of the name of a parameter group.
EVERY_GROUP = ""

# The types of JSON. The knob checks the value.
PlainValue = bool | int | float | str
ChangedKnobs = dict[str, dict[str, PlainValue]]


def after_set_knob(changed: ChangedKnobs, knob: str, group: str, new: object) -> ChangedKnobs:
    """Return the changed knobs after a command that set `knob`. `new` is the value of `group`, or values by group."""
    told: Mapping[str, Any] = new if isinstance(new, Mapping) else {group or EVERY_GROUP: new}
    values = {str(name): value for name, value in told.items() if value is not None}
    known = {} if EVERY_GROUP in values else changed.get(knob, {})
    return changed | {knob: known | values}


def after_roll_back(changed: ChangedKnobs, stood: Mapping[str, Any], knob: str) -> ChangedKnobs:
    """Return the changed knobs after the training was rolled back. `stood` has the values of all knobs after that.

    These count for the knobs that commands had changed before, and for `knob`, which the same command changed.
    """
    return {name: stood[name] for name in {*changed, knob} if name in stood}


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
