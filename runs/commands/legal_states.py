"""The states of a run in which a command may be sent, and why a command is not offered now."""

from __future__ import annotations

from runs.models import Run
from runs.protocol.commands import COMMANDS, EndProcess, Extend, RunCommand, SaveCheckpoint, Stop
from runs.recording.lifecycle import LIVE
from steersman.commands import UNHANDLED
from steersman.marked_text import gettext_noop

# The answer if the training's script has not enabled a command.
WITHHELD = UNHANDLED | {
    EndProcess.kind: gettext_noop(
        "No command is waiting for the training to read run.stopping: send stop first. If stop has no effect for "
        "some seconds, you can end the process."
    )
}
ONLY_RECIPES = gettext_noop("Only a recipe can be extended. To train your own script longer, change its arguments.")
SCRIPT_DECIDES = gettext_noop("Finish the current step and end. The script decides whether to save a checkpoint first.")


def legal_states(command: type[RunCommand], run: Run) -> frozenset[str]:
    """Return the states of `run` in which `command` is accepted: those of its kind, or fewer if nothing could execute
    it.

    Only recipes accept more epochs while they do not train: a script declares how to extend it while it runs.
    """
    if issubclass(command, Extend) and run.recipe_id is None:
        return command.legal_in & frozenset(LIVE)
    return command.legal_in


def help_of(command: type[RunCommand], run: Run) -> str:
    """Return the description of a command.

    It mentions a checkpoint only if the training has declared how it saves one.
    """
    if issubclass(command, Stop) and run.withholds(SaveCheckpoint.kind):
        return SCRIPT_DECIDES
    return command.help


def not_offered(run: Run) -> dict[str, str]:
    """Return the commands that a run would refuse in its current state, by kind, with the reasons."""
    reasons: dict[str, str] = {}
    for kind, command in COMMANDS.items():
        if run.state not in command.legal_in:
            reasons[kind] = f"The run is {run.state}: the command needs a run that is {_listed(command.legal_in)}."
        elif run.state not in legal_states(command, run):
            reasons[kind] = ONLY_RECIPES
        elif run.withholds(kind):
            reasons[kind] = WITHHELD[kind]
    return reasons


def _listed(states: frozenset[str]) -> str:
    *others, last = sorted(states)
    return f"{', '.join(others)} or {last}" if others else last
