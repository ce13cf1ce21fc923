"""Checkpoints of a training: their content, and loading them."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from steersman import Run
from steersman.checkpoints.kept import CHECKPOINTS, KeptCheckpoints
from steersman.checkpoints.putting_back import copied
from steersman.checkpoints.saving import LONGEST_REASON, innermost
from steersman.files.checkpoint import (
    Damaged,
    Manifest,
    Written,
    hashed,
    verify_checkpoint,
    write_hashed,
    write_manifest,
)
from steersman.files.private import FOLDER_MODE, make_private
from steersman.kinds import SpecError
from steersman.knobs import Knob
from steersman.values import first_line
from trainer.worker import randomness
from trainer.worker.progress import TrainingProgress
from trainer.worker.recipe import Recipe

MODEL_FILE, TRAINING_FILE = "model.pt", "training.pt"
HOURLY_S = 3600.0


class CheckpointError(ValueError):
    """A checkpoint that cannot be resumed from. The text gives the reason and the remedy."""


def rank_file(rank: int) -> str:
    """Return the file with the state of one rank: its random generators and the means of its shard of the epoch."""
    return f"rank-{rank:04d}.pt"


class CheckpointManager:
    """Writes the checkpoints of one attempt into its folder, and removes those that `retention` drops."""

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        scaler: torch.amp.GradScaler,
        knobs: Sequence[Knob] = (),
        built: Mapping[str, Any] | None = None,
    ) -> None:
        """`built` is the result of `trainer.worker.branching.as_built` for the recipe, for future branches."""
        self._run = run
        self._recipe = recipe
        self._built = built
        self._scaler = scaler
        self._knobs = knobs
        self._kept = KeptCheckpoints(run, (run.folder or Path()) / CHECKPOINTS)
        # By time.perf_counter(), which the loop reads anyway.
        self.hourly_due_at = time.perf_counter() + HOURLY_S

    def save(
        self, progress: TrainingProgress, reason: str, *, name: str = "", metrics: Mapping[str, float] | None = None
    ) -> str:
        """Write and record a checkpoint; return why it could not be saved, "" if it was.

        `reason` is one of last, best, hourly, named and stop. A full disk is reported to all viewers, and the training
        continues.
        """
        self.hourly_due_at = time.perf_counter() + HOURLY_S
        if self._run.folder is None:
            return "this training has no folder"
        folder = self._kept.new_folder(progress.step)
        files: dict[str, Written] = {}

        def make() -> None:
            if self._run.rank == 0:
                make_private(folder.parent)
                folder.mkdir(mode=FOLDER_MODE)

        def write() -> None:
            files.update(self._write_files(folder, progress))

        # All ranks do each of these together, and a failure on one is a failure on all.
        problem = self._together(make) or self._together(write)
        written: list[Written] = []
        manifest = Manifest(
            step=progress.step,
            epoch=progress.latest_epoch,
            name=name or reason,
            reason=reason,
            metrics=_finite(metrics or {f"train_{name}": float(mean) for name, mean in progress.means.items()}),
            files=files,
            knobs=self._run.knobs,
        )

        def seal() -> None:
            if self._run.rank == 0:
                for rank in range(1, self._run.ranks):
                    files[rank_file(rank)] = hashed(folder / rank_file(rank))
                written.append(write_manifest(folder, manifest))

        problem = problem or self._together(seal)
        if self._run.rank:
            return problem
        if problem:
            self._run.note(f"The checkpoint at step {progress.step} could not be saved: {problem}.", level="error")
            self._kept.remove(folder)
            return problem
        # First, so that the removed checkpoints are gone when the record is read.
        self._kept.add(folder, reason, progress.step)
        self._run.record_checkpoint(
            folder,
            step=manifest.step,
            epoch=manifest.epoch,
            name=manifest.name,
            size_bytes=written[0].size_bytes,
            sha256=written[0].sha256,
            reason=reason,
            metrics={name: math.nan if value is None else value for name, value in manifest.metrics.items()},
        )
        return ""

    def present(self, progress: TrainingProgress) -> dict[str, Any]:
        """Return the content of a checkpoint of this rank now, in the form of `read_checkpoint`, copied in memory."""
        content: dict[str, Any] = copied(self._training_state(progress))
        content["model"] = copied(self._recipe.model.state_dict())
        content |= {"random": randomness.capture(), "shard": content["progress"]}
        return content

    def put_back(self, progress: TrainingProgress, content: Mapping[str, Any]) -> None:
        """Restore a checkpoint's content; `progress` then has its position.

        Epochs that were added since are still trained, and batches that are left out stay so. Raises `CheckpointError`
        if it does not fit.
        """
        found = restore(self._recipe, self._scaler, self._knobs, content)
        found.segment, found.extra_epochs = progress.segment, progress.extra_epochs
        found.left_out = progress.left_out
        for each in fields(found):
            setattr(progress, each.name, getattr(found, each.name))
        self._recipe.batches_changed = True

    def _together(self, work: Callable[[], object]) -> str:
        """Do this rank's part and wait for the other ranks; return why a rank failed, "" if none did."""
        problem, handled = "", sys.exc_info()[1]
        try:
            work()
        except (OSError, RuntimeError) as error:
            problem = innermost(error, handled)
        except Exception as error:
            if self._run.ranks == 1:
                raise
            # The other ranks wait for the result of this one.
            problem = f"{type(error).__name__}: {first_line(error, LONGEST_REASON)}"
        return self._run.agree(problem)

    def _write_files(self, folder: Path, progress: TrainingProgress) -> dict[str, Written]:
        own = {
            "random": randomness.capture(),
            "shard": {"samples": progress.samples, "seconds": progress.seconds, "sums": progress.sums},
        }
        contents = {rank_file(self._run.rank): own}
        if self._run.rank == 0:
            contents |= {MODEL_FILE: self._recipe.model.state_dict(), TRAINING_FILE: self._training_state(progress)}
        return {
            name: write_hashed(folder / name, lambda file, content=content: torch.save(content, file))  # type: ignore[misc]
            for name, content in contents.items()
        }

    def _training_state(self, progress: TrainingProgress) -> dict[str, Any]:
        recipe = self._recipe
        return {
            "saved_at": time.time(),
            "parameters": recipe.parameters,
            "seed": recipe.seed,
            "built": self._built,
            "optimizer": recipe.optimizer.state_dict(),
            "scheduler": recipe.scheduler.state_dict() if recipe.scheduler is not None else None,
            "scaler": self._scaler.state_dict(),
            "knobs": self._run.knobs,
            "progress": asdict(progress),
        }


def load_checkpoint(folder: Path, sha256: str, rank: int = 0) -> dict[str, Any]:
    """Return the content of a checkpoint on the CPU, after verifying every hash; nothing in it can run code.

    `random` is None if fewer ranks saved it. Raises `CheckpointError` if the checkpoint is missing, differs from the
    record, or cannot be read.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"The checkpoint {folder.name} is not on this host: copy it here, or start the attempt where it was saved."
        )
    try:
        manifest = verify_checkpoint(folder, sha256)
        for name in (MODEL_FILE, TRAINING_FILE):
            if name not in manifest.files:
                raise Damaged(f"its manifest does not list {name}")
    except Damaged as error:
        raise CheckpointError(
            f"The checkpoint {folder.name} cannot be used ({error}): resume from another one."
        ) from None
    return read_checkpoint(folder, manifest, rank)


def read_checkpoint(folder: Path, manifest: Manifest, rank: int = 0) -> dict[str, Any]:
    """Return the result of `load_checkpoint` for a verified checkpoint. Raises `CheckpointError`."""
    content = _read(folder / TRAINING_FILE)
    content["model"] = _read(folder / MODEL_FILE)
    own = _read(folder / rank_file(rank)) if rank_file(rank) in manifest.files else {}
    content["random"] = own.get("random")
    content["shard"] = own.get("shard") if rank else None
    return content


def _read(file: Path) -> dict[str, Any]:
    try:
        content = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # any content of the file leads to a readable error
        raise CheckpointError(
            f"The checkpoint {file.parent.name} cannot be used: {file.name} contains more than plain values or is "
            f"damaged ({type(error).__name__}: {first_line(error, LONGEST_REASON)}). Resume from another one."
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"The checkpoint {file.parent.name} cannot be used: {file.name} holds no dict. Resume from another one."
        )
    return content


def restore(
    recipe: Recipe, scaler: torch.amp.GradScaler, knobs: Sequence[Knob], checkpoint: Mapping[str, Any]
) -> TrainingProgress:
    """Restore model, optimizer, schedule, knobs and generators; return the progress of the training.

    Raises `CheckpointError` if the checkpoint belongs to a model of another shape, or is not a file of Steersman.
    """
    try:
        # Knobs first: the values that they change in optimizer and schedule are then overwritten with the exact ones.
        for knob in knobs:
            refused = knob.restore(checkpoint["knobs"].get(knob.spec.name, {}))
            if refused:
                # The optimizer's state has the old value, which only this knob can change.
                raise next(iter(refused.values()))
        recipe.model.load_state_dict(checkpoint["model"])
        recipe.optimizer.load_state_dict(checkpoint["optimizer"])
        if recipe.scheduler is not None and checkpoint["scheduler"] is not None:
            recipe.scheduler.load_state_dict(checkpoint["scheduler"])
        scaler.load_state_dict(checkpoint["scaler"])
        if checkpoint["random"] is not None:
            randomness.restore(checkpoint["random"])
        progress = TrainingProgress(**checkpoint["progress"])
        if recipe.rank:
            _take_shard(progress, checkpoint["shard"])
        progress.sums = {name: value.to(recipe.device) for name, value in progress.sums.items()}
    except SpecError as error:
        raise CheckpointError(
            f"The checkpoint does not fit what the recipe declares ({error}): resume from another one."
        ) from error
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            "The checkpoint does not fit the model that these parameters build "
            f"({first_line(error, LONGEST_REASON)}): resume with the parameters it was saved with, or start a new run."
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            "The checkpoint does not hold what Steersman saves "
            f"({type(error).__name__}: {first_line(error, LONGEST_REASON)}): resume from another one."
        ) from error
    return progress


def _take_shard(progress: TrainingProgress, shard: Mapping[str, Any] | None) -> None:
    """Replace rank 0's part of the epoch by this rank's part; do nothing if this rank did not take part."""
    none = {name: torch.zeros_like(value) for name, value in progress.sums.items()}
    found = shard or {"samples": 0, "seconds": progress.seconds, "sums": {}}
    progress.samples, progress.seconds = found["samples"], found["seconds"]
    progress.sums = none | dict(found["sums"])


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
