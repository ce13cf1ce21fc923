"""A validation loss that rises while the training loss still falls. Compares two series."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

from runs.alerts.detectors.curve import noise_of
from runs.alerts.detectors.latch import Latch, Latched
from runs.alerts.detectors.points import Severity
from runs.alerts.detectors.seen import Seen


@dataclass(frozen=True, slots=True)
class OverfittingDefaults:
    """`of_best` is the rise as a fraction of the best validation loss, `of_fall` as a fraction of its fall so far."""

    history: int = 10
    rising: int = 5
    deviations: float = 4.0
    of_best: float = 0.12
    of_fall: float = 0.08
    training_fell: float = 0.9
    kept: int = 24
    training_window: int = 25


class Overfitting(Latched):
    """Generalisation loss beyond the noise (Prechelt, Early stopping – but when?, 1998), while training improves.

    Each validation loss is paired with the median of the latest training losses. The alarm begins when four evaluations
    in a row are above the best one by the required generalisation loss, and the training loss has since fallen by a
    tenth.
    """

    name = "overfitting"
    severity: Severity = "warning"

    def __init__(self, defaults: OverfittingDefaults | None = None) -> None:
        self._defaults = defaults or OverfittingDefaults()
        self._training: deque[float] = deque(maxlen=self._defaults.training_window)
        self._levels: deque[float] = deque(maxlen=self._defaults.kept)
        self._best: tuple[float, float] | None = None
        self._evaluations = 0
        # The start of the curve is the first evaluation, because most of the fall is often over by the second.
        self._first = 0.0
        self._latch = Latch(self._defaults.rising)

    def note_training(self, loss: float) -> None:
        """Record a training loss."""
        self._training.append(loss)

    def see(self, seen: Seen) -> bool:
        """Judge a validation loss."""
        asked = self._defaults
        if not self._training:
            return False
        self._levels.append(seen.loss)
        if not self._evaluations:
            self._first = seen.loss
        self._evaluations += 1
        training = median(self._training)
        level = median(list(self._levels)[-3:])
        if self._best is None or level < self._best[0]:
            self._best = level, training
        if self._evaluations < asked.history:
            return False
        best, training_then = self._best
        # The rising evaluations themselves are not part of the noise.
        earlier = list(self._levels)[: -asked.rising]
        rise = max(asked.of_best * abs(best), asked.of_fall * max(0.0, self._first - best))
        rise = seen.width * max(rise, asked.deviations * noise_of(earlier))
        if min(level, seen.loss) > best + rise and training < asked.training_fell * training_then:
            return self._latch.bad(seen.step, seen.time)
        self._latch.good()
        return False
