"""Names of series with a special meaning, and the natural order of names."""

from __future__ import annotations

import re

# The usual names of a training loss, in the built-in recipes and in scripts.
LOSS_NAMES = ("train/loss", "loss")
_NUMBER = re.compile(r"([0-9]+)")

NaturalKey = tuple[tuple[tuple[int, str], ...], str]


def natural_key(name: str) -> NaturalKey:
    """Return a key that sorts names in natural order: blocks.2 before blocks.10, ignoring case."""
    parts = []
    for place, part in enumerate(_NUMBER.split(name.casefold())):
        digits = part.lstrip("0")
        # Text is at even indices, numbers at odd ones; a number with more digits is larger.
        parts.append((len(digits), digits) if place % 2 else (0, part))
    return tuple(parts), name
