"""Names of series that mean something to the product, and the order in which people read names."""

from __future__ import annotations

import re

# The names under which a training loss is usually logged, by the built-in recipes and by scripts.
LOSS_NAMES = ("train/loss", "loss")
_NUMBER = re.compile(r"([0-9]+)")

NaturalKey = tuple[tuple[tuple[int, str], ...], str]


def natural_key(name: str) -> NaturalKey:
    """Return the key that sorts names as people count: blocks.2 before blocks.10, whatever their case."""
    parts = []
    for place, part in enumerate(_NUMBER.split(name.casefold())):
        digits = part.lstrip("0")
        # Text alone at even places, numbers at odd ones: the longer number is the larger.
        parts.append((len(digits), digits) if place % 2 else (0, part))
    return tuple(parts), name
