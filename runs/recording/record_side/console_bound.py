"""Keeps the console of a run in the database within its bound while it is written."""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings

from runs.series.console_text import bound_console

# The size of an event and of a line without their text.
FRAME_CHARACTERS = 64


class ConsoleBound:
    """Bounds the console of one run."""

    def __init__(self, run_id: int) -> None:
        self._run_id = run_id
        self._largest_characters = settings.STEERSMAN_CONSOLE_MIB << 20
        # The first call also bounds the output of earlier supervisors.
        self._new_characters = self._largest_characters

    def note(self, lines: Iterable[str]) -> None:
        """Count lines that were stored."""
        self._new_characters += sum(len(text) + FRAME_CHARACTERS for text in lines)

    @property
    def is_due(self) -> bool:
        """Whether `look` would do something."""
        return self._new_characters >= self._largest_characters // 8

    def look(self, *, ended: bool = False) -> None:
        """Remove the middle of the console if an eighth of the bound is new, or at the end."""
        if ended or self.is_due:
            bound_console(self._run_id, self._largest_characters)
            self._new_characters = 0
