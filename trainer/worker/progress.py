"""The progress of a training."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(slots=True)
class TrainingProgress:
    """The progress in a checkpoint: `batch` batches of `epoch` (from 1) are done."""

    step: int = 0
    epoch: int = 1
    batch: int = 0
    best: float | None = None
    # The attempt that trained last, and the epochs that were added while training.
    segment: int = 1
    extra_epochs: int = 0
    # Batches that are left out since a rollback: first and count, of all batches of all epochs from 0 on.
    left_out: list[list[int]] = field(default_factory=list)
    # Of the epoch so far: samples seen, seconds spent, and each mean times its samples, float64 on the device.
    samples: int = 0
    seconds: float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def begin_epoch(self, epoch: int) -> None:
        self.epoch, self.batch, self.samples, self.seconds, self.sums = epoch, 0, 0, 0.0, {}

    def batches(self, per_epoch: int) -> int:
        """Return how many batches of all epochs are done."""
        return (self.epoch - 1) * per_epoch + self.batch

    def leave_out(self, first: int, count: int) -> None:
        """Do not train on `count` batches from number `first` on."""
        self.left_out.append([max(0, first), count])

    def leaves_out_next(self, per_epoch: int) -> bool:
        """Return whether the next batch is left out. The last one of an epoch is trained if no other was, since an
        epoch has means."""
        if self.batch == per_epoch - 1 and not self.samples:
            return False
        return any(0 <= self.batches(per_epoch) - first < count for first, count in self.left_out)

    @property
    def latest_epoch(self) -> int:
        """Return the epoch of the last step."""
        return self.epoch if self.batch else self.epoch - 1

    @property
    def means(self) -> dict[str, Tensor]:
        """Return the means of the epoch so far; empty before its first step."""
        return {name: total / self.samples for name, total in self.sums.items()}
