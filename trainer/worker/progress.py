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
    # For the epoch so far: samples seen, seconds spent, and each mean times its samples, float64 on the device.
    samples: int = 0
    seconds: float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def begin_epoch(self, epoch: int) -> None:
        self.epoch, self.batch, self.samples, self.seconds, self.sums = epoch, 0, 0, 0.0, {}

    @property
    def latest_epoch(self) -> int:
        """Return the epoch of the last step."""
        return self.epoch if self.batch else self.epoch - 1

    @property
    def means(self) -> dict[str, Tensor]:
        """Return the means of the epoch so far; empty before its first step."""
        return {name: total / self.samples for name, total in self.sums.items()}
