"""Checkpoints of a training: what goes in, which are kept, and how one is loaded again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from coxswain.checkpoint import verify, write_atomically
from trainer import randomness
from trainer.progress import Progress, Watched
from trainer.recipe import Recipe

FORMAT = 1
# The last two: should the newest turn out damaged, there is one before it.
KEPT = 2


class CheckpointError(ValueError):
    """A checkpoint that cannot be gone on from. The text says why and what to do."""


class Keeper:
    """Writes the checkpoints of one training into the attempt's folder; keeps the last two and the best."""

    def __init__(self, run: Watched, recipe: Recipe, scaler: torch.amp.GradScaler) -> None:
        self._run = run
        self._recipe = recipe
        self._scaler = scaler
        self._recent: list[Path] = []
        self._best: Path | None = None

    def save(self, progress: Progress, name: str) -> bool:
        """Write and record a checkpoint called `name` ("best", "last" or "stop"); return whether it is whole.

        A disk that is full is told to everybody who watches, and the training goes on.
        """
        if self._run.folder is None:
            return False
        path = self._run.folder / "checkpoints" / f"step-{progress.step:08d}.pt"
        state = self._state(progress)
        try:
            path.parent.mkdir(exist_ok=True)
            written = write_atomically(path, lambda file: torch.save(state, file))
        except (OSError, RuntimeError) as error:
            # torch's archive writer turns an OSError of the file beneath it into a RuntimeError.
            reason = _innermost(error)
            self._run.note(f"The checkpoint at step {progress.step} could not be saved: {reason}.", level="error")
            return False
        self._run.record_checkpoint(
            path,
            step=progress.step,
            epoch=progress.latest_epoch,
            name=name,
            size_bytes=written.size_bytes,
            sha256=written.sha256,
        )
        self._forget_older(path, name)
        return True

    def restore(self, checkpoint: Mapping[str, Any]) -> Progress:
        """Put model, optimiser, schedule and generators where they were; return how far the training was.

        Raises `CheckpointError` where the checkpoint belongs to a model of another shape.
        """
        recipe = self._recipe
        try:
            recipe.model.load_state_dict(checkpoint["model"])
            recipe.optimiser.load_state_dict(checkpoint["optimiser"])
        except (RuntimeError, ValueError) as error:
            first_line = str(error).strip().splitlines()[0]
            raise CheckpointError(
                "The checkpoint does not fit the model that these parameters build "
                f"({first_line}): continue with the parameters it was saved with, or start a new run."
            ) from error
        if recipe.scheduler is not None and checkpoint["scheduler"] is not None:
            recipe.scheduler.load_state_dict(checkpoint["scheduler"])
        self._scaler.load_state_dict(checkpoint["scaler"])
        randomness.restore(checkpoint["random"])
        progress = Progress(**checkpoint["progress"])
        progress.sums = {name: value.to(recipe.device) for name, value in progress.sums.items()}
        return progress

    def _state(self, progress: Progress) -> dict[str, Any]:
        recipe = self._recipe
        return {
            "format": FORMAT,
            "saved_at": time.time(),
            "parameters": recipe.parameters,
            "seed": recipe.seed,
            "model": recipe.model.state_dict(),
            "optimiser": recipe.optimiser.state_dict(),
            "scheduler": recipe.scheduler.state_dict() if recipe.scheduler is not None else None,
            "scaler": self._scaler.state_dict(),
            "random": randomness.capture(),
            "progress": asdict(progress),
        }

    def _forget_older(self, path: Path, name: str) -> None:
        if name == "best":
            replaced, self._best = self._best, path
            if replaced is not None and replaced not in self._recent:
                self._remove(replaced)
        if path not in self._recent:
            self._recent.append(path)
        while len(self._recent) > KEPT:
            oldest = self._recent.pop(0)
            if oldest != self._best:
                self._remove(oldest)

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._run.note(f"An old checkpoint could not be removed: {error.strerror}.", level="warning")


def load_checkpoint(path: Path, sha256: str) -> dict[str, Any]:
    """Return the content of a checkpoint on the CPU, once its hash is right; nothing in it can run code.

    Raises `CheckpointError` where the file is missing, differs from what was recorded, or has another format.
    """
    if not path.is_file():
        raise CheckpointError(
            f"The checkpoint {path.name} is not on this host: copy it here, or start the attempt where it was saved."
        )
    if not verify(path, sha256):
        raise CheckpointError(
            f"The checkpoint {path.name} is not what was recorded (its SHA-256 differs): continue from another one."
        )
    content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"The checkpoint {path.name} has format {content.get('format')}, this version reads {FORMAT}: "
            "continue with the version of Coxswain that saved it."
        )
    return content


def _innermost(error: BaseException) -> str:
    """Return the reason of the first cause in an exception's chain, without a path."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error.strerror or "input or output error" if isinstance(error, OSError) else str(error).splitlines()[0]
