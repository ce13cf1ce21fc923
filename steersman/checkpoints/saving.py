"""Saves the objects of a script as a checkpoint, which is complete on disk with a manifest, or does not exist."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

from steersman import values
from steersman.checkpoints.kept import KeptCheckpoints
from steersman.checkpoints.saved import SUFFIX, SavedCheckpoint
from steersman.files.checkpoint import FILE_NAME, Manifest, write_hashed, write_manifest
from steersman.files.private import FOLDER_MODE, make_private
from steersman.records.kinds import Reason

# The maximum length of an error's text, in characters.
LONGEST_REASON = 200
# The maximum depth of nested lists and dictionaries.
DEEPEST = 20


class NotSaved(ValueError):
    """Objects that cannot be saved. The text names them, and what to pass instead."""


def states_of(objects: Any) -> dict[str, Any]:
    """Return the value to write for each object: its `state_dict()`, or a plain value itself.

    Raises `NotSaved` if something is neither, or a name cannot be a file name.
    """
    if not values.is_mapping(objects) or not objects:
        raise NotSaved('save_checkpoint() takes objects by name, such as {"model": model, "optimizer": optimizer}')
    return {_file_name(name): _state(name, given) for name, given in objects.items()}


def _file_name(name: Any) -> str:
    file = f"{name}{SUFFIX}" if isinstance(name, str) and name else ""
    if not FILE_NAME.fullmatch(file):
        raise NotSaved(
            f"the name {values.shown(name)} is not a file name: give a str of at most 97 letters, digits, - and _ that "
            "begins with a letter or a digit"
        )
    return file


def _state(name: str, given: Any) -> Any:
    getter = getattr(given, "state_dict", None)
    if callable(getter):
        return getter()
    if not _is_plain(given, DEEPEST):
        raise NotSaved(
            f"{name} has no state_dict() and is not a plain value: only numbers, text, tensors, lists and dictionaries "
            "of these can be loaded safely"
        )
    return given


def _is_plain(given: Any, depth: int) -> bool:
    kind = type(given)
    if kind in (bool, int, float, str, bytes, type(None)):
        return True
    if kind in (list, tuple) and depth:
        return all(_is_plain(each, depth - 1) for each in given)
    if kind is dict and depth:
        return all(type(key) in (int, str) and _is_plain(each, depth - 1) for key, each in given.items())
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(given, torch.Tensor)


def as_reason(name: str) -> Reason:
    """Return the reason for a checkpoint of this name: a checkpoint with a custom name is kept."""
    reason: Any = name if name in get_args(Reason) else "named"
    return reason  # type: ignore[no-any-return]


def write_checkpoint(
    kept: KeptCheckpoints,
    states: Mapping[str, Any],
    *,
    name: str,
    step: int,
    epoch: int,
    metrics: Mapping[str, float],
    knobs: Mapping[str, dict[str, Any]],
) -> tuple[SavedCheckpoint, int]:
    """Write `states`, by file name, as a complete checkpoint; return it and its size in bytes.

    Raises `NotSaved` or `OSError` if it cannot be written; nothing is then left over.
    """
    handled = sys.exc_info()[1]
    torch = sys.modules.get("torch")
    if torch is None:
        raise NotSaved("torch must be imported before a checkpoint is saved")
    folder = kept.new_folder(step)
    while folder.exists():
        # An earlier process has saved at this step.
        folder = kept.new_folder(step)
    make_private(folder.parent)
    folder.mkdir(mode=FOLDER_MODE)
    try:
        files = {file: write_hashed(folder / file, partial(torch.save, state)) for file, state in states.items()}
        finite = {metric: value if math.isfinite(value) else None for metric, value in metrics.items()}
        manifest = Manifest(step, epoch, name, as_reason(name), files, finite, _plain_knobs(knobs))
        written = write_manifest(folder, manifest)
    except Exception as error:  # any exception: from the disk, torch, or the objects in the states
        kept.remove(folder)
        raise NotSaved(innermost(error, handled)) from error
    kept.add(folder, as_reason(name), step)
    return SavedCheckpoint(folder, written.sha256, step, epoch, name), written.size_bytes


def _plain_knobs(knobs: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the knobs whose values JSON can represent."""
    return {
        name: by_group
        for name, by_group in knobs.items()
        if not any(isinstance(value, float) and not math.isfinite(value) for value in by_group.values())
    }


def innermost(error: BaseException, handled: BaseException | None) -> str:
    """Return the reason of the first cause in an exception's chain, without a path.

    `handled` is what the training was handling before, which is not a cause: many scripts save while they handle an
    interrupt. torch's archive writer turns an `OSError` of the underlying file into a `RuntimeError`.
    """
    while (cause := error.__cause__ or error.__context__) is not None and cause is not handled:
        error = cause
    if isinstance(error, OSError):
        return error.strerror or "input or output error"
    return values.first_line(error, LONGEST_REASON)
