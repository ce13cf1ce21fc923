"""Where a training is, and what it needs of the run it is trained for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import Tensor

Outcome = Literal["finished", "stopped"]


class Watched(Protocol):
    """What a training asks of its run: `coxswain.attach()` returns one, tests have their own."""

    @property
    def folder(self) -> Path | None: ...
    @property
    def stopping(self) -> bool: ...
    def log(self, step: int, /, **values: Any) -> None: ...
    def log_epoch(
        self,
        epoch: int,
        /,
        *,
        step: int | None = None,
        duration_s: float | None = None,
        best: bool = False,
        **values: Any,
    ) -> None: ...
    def plan(
        self, *, total_epochs: int | None = None, total_steps: int | None = None, steps_per_epoch: int | None = None
    ) -> None: ...
    def note(self, text: str, level: Literal["info", "warning", "error"] = "info") -> None: ...
    def log_text(self, name: str, text: str, /, *, step: int | None = None, epoch: int | None = None) -> None: ...
    def record_checkpoint(
        self, path: Path, *, step: int, epoch: int, name: str, size_bytes: int, sha256: str
    ) -> None: ...
    def finish(self, outcome: Outcome = "finished", *, step: int | None = None) -> None: ...


@dataclass(slots=True)
class Progress:
    """All that a checkpoint tells of progress: `batch` batches of `epoch` (from 1) are done."""

    step: int = 0
    epoch: int = 1
    batch: int = 0
    best: float | None = None
    # Of the epoch so far: samples seen, seconds spent, and each mean times its samples, float64 on the device.
    samples: int = 0
    seconds: float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def begin_epoch(self, epoch: int) -> None:
        self.epoch, self.batch, self.samples, self.seconds, self.sums = epoch, 0, 0, 0.0, {}

    @property
    def latest_epoch(self) -> int:
        """Return the epoch that the last step belongs to."""
        return self.epoch if self.batch else self.epoch - 1
