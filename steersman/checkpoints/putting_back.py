"""Restores the objects of a script from a checkpoint while it trains: all of them, or none."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from steersman.checkpoints.saved import SavedCheckpoint
from steersman.files.checkpoint import Damaged, Manifest, verify_checkpoint
from steersman.records.posted import RollBackArguments


def verified(folder: Path, arguments: RollBackArguments) -> Manifest | None:
    """Return the manifest of a checkpoint with only unchanged files; None if only the script can read it.

    Raises `Damaged` with a sentence if the checkpoint is gone or damaged.
    """
    where = f"The checkpoint {arguments.checkpoint} at step {arguments.step}"
    try:
        if not arguments.has_manifest:
            if not folder.exists():
                raise Damaged("it is missing")
            return None
        return verify_checkpoint(folder, arguments.sha256)
    except (Damaged, OSError) as error:
        raise Damaged(f"{where} cannot be used ({error}): choose another one.") from None


def can_be_put_back(objects: Mapping[str, Any]) -> bool:
    """Return whether a script can be rolled back with these objects: at least one of them has a state."""
    return bool(_stateful(objects))


def put_back(
    objects: Mapping[str, Any], folder: Path, wanted: RollBackArguments, agree: Callable[[str], str]
) -> Callable[[], None]:
    """Load the checkpoint's state into each object that has one; return a function that undoes this.

    Plain values stay unchanged.

    All ranks read before one changes anything: `agree` returns the problem of any rank. If an object refuses its state,
    all are restored from a copy in memory. Raises `Damaged` with a sentence, and exceptions of `load_state_dict`.
    """
    stateful = _stateful(objects)
    states: dict[str, Any] = {}
    problem = ""
    if not wanted.has_manifest:
        problem = (
            "The checkpoint was written by the script itself, and only the script can read it: choose one that "
            'run.save_checkpoint() wrote, or let the script register run.on("roll_back", …).'
        )
    else:
        saved = SavedCheckpoint(folder, wanted.sha256, wanted.step, wanted.epoch, "")
        try:
            states = {name: saved.load(name) for name in stateful}
        except (Damaged, KeyError) as error:
            problem = str(error.args[0])
    if problem := agree(problem):
        raise Damaged(problem)
    before = {name: copied(given.state_dict()) for name, given in stateful.items()}

    def undo() -> None:
        for name, given in stateful.items():
            given.load_state_dict(before[name])

    try:
        for name, given in stateful.items():
            given.load_state_dict(states[name])
    except BaseException:
        undo()
        raise
    return undo


def _stateful(objects: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: given
        for name, given in objects.items()
        if callable(getattr(given, "state_dict", None)) and callable(getattr(given, "load_state_dict", None))
    }


def copied(state: Any) -> Any:
    """Return a copy of a state with tensors on the CPU, because the GPU may have no memory for a second one."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {name: copied(value) for name, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(map(copied, state))
    return copy.deepcopy(state)
