"""Names of series that mean something to the product."""

from __future__ import annotations

# The names under which a training loss is usually logged, by the built-in recipes and by scripts.
LOSS_NAMES = ("train/loss", "loss")
