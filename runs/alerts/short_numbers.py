"""Numbers as people read them beside an alert."""

from __future__ import annotations


def short_number(value: float, digits: int) -> str:
    """Return a finite number with so many significant digits at most; from 0.0001 up to a million without exponent."""
    return f"{float(f'{value:.{digits}g}'):g}"
