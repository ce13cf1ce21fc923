"""Why a training on this host was not started."""

from __future__ import annotations

from steersman.exit_codes import EXIT_BAD_INPUT


class NotStarted(Exception):
    """The training was not started. The text gives the reason and the remedy."""

    def __init__(self, text: str, exit_code: int = EXIT_BAD_INPUT) -> None:
        super().__init__(text)
        self.exit_code = exit_code
