"""The words for a range of numbers. Standard library only."""

from __future__ import annotations

from steersman.marked_text import gettext_noop

Limit = float | int | None


def range_pattern(minimum: Limit, maximum: Limit) -> str:
    """Return the words for a range with the places %(minimum)s and %(maximum)s, "" if there is no limit.

    A page translates the pattern before it fills in the limits.
    """
    if minimum is not None and maximum is not None:
        return gettext_noop("%(minimum)s to %(maximum)s")
    if minimum is not None:
        return gettext_noop("at least %(minimum)s")
    return "" if maximum is None else gettext_noop("at most %(maximum)s")


def range_in_words(minimum: Limit, maximum: Limit) -> str:
    """Return which numbers two limits allow, such as "1 to 100", "" if there is no limit."""
    return range_pattern(minimum, maximum) % {"minimum": minimum, "maximum": maximum}


def number_in_words(minimum: Limit, maximum: Limit, *, whole: bool) -> str:
    """Return which numbers are allowed, such as "a whole number from 1 to 100"."""
    low = "" if minimum is None else f" from {minimum}"
    high = "" if maximum is None else f" to {maximum}"
    return f"{'a whole number' if whole else 'a number'}{low}{high}"
