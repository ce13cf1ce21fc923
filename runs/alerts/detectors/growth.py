"""Weights of a layer that have grown far beyond their usual size, whatever the loss does."""

from __future__ import annotations

from dataclasses import dataclass

from runs.alerts.detectors.points import Severity
from runs.alerts.detectors.seen import Seen
from runs.alerts.layers.origin import PREFIX, Growth, LayerNorms

SERIES = f"{PREFIX}weight/"


@dataclass(frozen=True, slots=True)
class GrowthDefaults:
    """The number of observations of the layer that must be outside the usual range: `sudden` if its updates are too
    small to explain the growth, otherwise `lasting`. The range must be that of `history` observations, because the
    weights of some layers start near zero.
    """

    history: int = 16
    sudden: int = 2
    lasting: int = 4


class WeightGrowth:
    """The weights of one layer left their usual range, and stay outside.

    The norm of a sum is at most the sum of the norms: in n steps whose updates have the norm u, weights grow by n · u
    at most. A greater growth was made by something else, such as a faulty write. A model with normalisation may hide
    it, because its loss depends little on the scale of a layer.
    """

    name = "weight-growth"
    severity: Severity = "warning"

    def __init__(self, norms: LayerNorms, layer: str, defaults: GrowthDefaults | None = None) -> None:
        self._norms = norms
        self._layer = layer
        self._defaults = defaults or GrowthDefaults()
        self.active = False
        # What the alarm began with.
        self.growth: Growth | None = None

    def see(self, seen: Seen) -> bool:
        """Judge the norm that `norms` have just noted; return whether an alarm begins."""
        if not self._norms.is_outside("weight", self._layer):
            self.active = False
            return False
        growth = None if self.active else self._norms.growth(self._layer)
        if growth is None or growth.usual < self._defaults.history:
            return False
        needed = self._defaults.lasting if growth.by_updates else self._defaults.sudden
        if growth.observations < needed:
            return False
        self.active, self.growth = True, growth
        return True
