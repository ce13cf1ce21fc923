"""An error of the command `steersman`, as one sentence for the person at the terminal."""

from __future__ import annotations

from steersman.exit_codes import EXIT_BAD_INPUT


class Problem(Exception):
    """The command cannot do its work. The text gives the reason and the remedy."""

    def __init__(self, text: str, exit_code: int = EXIT_BAD_INPUT) -> None:
        super().__init__(text)
        self.exit_code = exit_code
