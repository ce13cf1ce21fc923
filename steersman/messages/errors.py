"""The text of an error on one line, in the same form on both sides."""

from __future__ import annotations

from steersman.values import as_text

LONGEST_REASON = 300


def one_line(error: BaseException) -> str:
    """Return the text of an error on one line."""
    said = " ".join(as_text(error, LONGEST_REASON).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
