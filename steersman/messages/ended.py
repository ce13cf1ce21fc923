"""The end of the processes of an attempt, as reported by the host side."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of the rank that is the root cause: `code` as in `subprocess`, None if it is not known.

    `stopped`: a signal asked for a stop. `interrupted`: a second one ended the training at once. `oom_kill`: the kernel
    killed for want of memory. `last_line` is the last line that the rank printed, redacted.
    """

    rank: int
    code: int | None
    stopped: bool = False
    interrupted: bool = False
    oom_kill: bool = False
    last_line: str = ""
