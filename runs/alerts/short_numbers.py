"""Numbers as people read them in an alert."""

from __future__ import annotations


def short_number(value: float, digits: int) -> str:
    """Return a finite number with at most `digits` significant digits; without exponent from 0.0001 to a million."""
    return f"{float(f'{value:.{digits}g}'):g}"
