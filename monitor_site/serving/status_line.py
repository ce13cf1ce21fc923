"""The output of `serve` and the demo while they run: sentences, and one line that is updated on a terminal."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

PLAIN_INTERVAL_S = 30.0
CLEAR_LINE = "\r\x1b[2K"


class StatusLine:
    """One line at the bottom of a terminal; elsewhere a plain line every 30 s and whenever the state changes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._shown = ""
        self._last_plain_at = -PLAIN_INTERVAL_S
        self._last_state = ""

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._clear()
        self._out.write(text + "\n")
        self._draw()

    def show(self, text: str, state: str) -> None:
        """Show `text` as the status; a change of `state` is printed as a line."""
        if self._terminal:
            self._clear()
            width = shutil.get_terminal_size().columns - 1
            self._shown = text if len(text) <= width else text[: width - 1] + "…"
            self._draw()
        elif state != self._last_state or time.monotonic() - self._last_plain_at >= PLAIN_INTERVAL_S:
            self._last_plain_at = time.monotonic()
            self._out.write(text + "\n")
            self._out.flush()
        self._last_state = state

    def end(self) -> None:
        """Leave the terminal with the cursor on a new line."""
        if self._shown:
            self._out.write("\n")
        self._shown = ""
        self._out.flush()

    def _clear(self) -> None:
        if self._shown:
            self._out.write(CLEAR_LINE)

    def _draw(self) -> None:
        self._out.write(self._shown)
        self._out.flush()
