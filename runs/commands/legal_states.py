"""The states of a run in which a command may be sent: those of its kind, and fewer where nothing could act on it."""

from __future__ import annotations

from runs.models import Run
from runs.protocol.commands import Extend, RunCommand
from runs.recording.lifecycle import LIVE


def legal_states(command: type[RunCommand], run: Run) -> frozenset[str]:
    """Return the states of `run` in which `command` is taken.

    Only a recipe can be given more epochs while it does not train: how a script is made longer, it says as it lives.
    """
    if issubclass(command, Extend) and run.recipe_id is None:
        return command.legal_in & frozenset(LIVE)
    return command.legal_in
