"""Whether a failed training is restarted, and after which pause. Imports neither Django nor torch."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_PAUSE_S = 300.0
TIMES_LONGER = 3
BAD_INPUT = 2
MOST_RESTARTS = 1000

# Parts of an error that change although the fault is the same: addresses and counts.
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


@dataclass(frozen=True, slots=True)
class Fault:
    """The failure of an attempt: its last logged step, its error, and its exit code if it is known."""

    step: int
    error: str
    exit_code: int | None = None

    def repeats(self, earlier: Fault) -> bool:
        """Return whether this is the same fault at the same step."""
        return self.step == earlier.step and _NUMBERS.sub("#", self.error) == _NUMBERS.sub("#", earlier.error)


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart `number` of `of`, due in `pause_s` seconds."""

    number: int
    of: int
    pause_s: float

    @property
    def sentence(self) -> str:
        return f"Starts again in {self.pause_s:.0f} s (restart {self.number} of {self.of})."


def plan_restart(faults: Sequence[Fault], *, allowed: int, used: int, first_pause_s: float) -> Restart | str:
    """Return the restart after the last of `faults`, oldest first, or a sentence why there is none.

    The sentence is "" if no restart was requested. `faults` are those since a person started the run, `used` the
    restarts since then.
    """
    last = faults[-1]
    if not allowed or last.exit_code == BAD_INPUT:
        return ""
    if len(faults) > 1 and last.repeats(faults[-2]):
        return f"Not started again: the same error has already occurred at step {last.step}."
    if used >= allowed:
        return f"Not started again: all {allowed} restarts are used." if allowed > 1 else (
            "Not started again: the one restart is used."
        )  # fmt: skip
    in_vain = 0
    for later, earlier in zip(reversed(faults), reversed(faults[:-1]), strict=False):
        if later.step > earlier.step:
            break
        in_vain += 1
    pause_s = min(first_pause_s * TIMES_LONGER**in_vain, LONGEST_PAUSE_S)
    return Restart(number=used + 1, of=allowed, pause_s=pause_s)


def number_of_restarts(text: str) -> int:
    """Return the number given to `--restarts`. Raises `argparse.ArgumentTypeError` if it is invalid."""
    if not text.isdecimal() or int(text) > MOST_RESTARTS:
        raise argparse.ArgumentTypeError(f"give a whole number from 0 to {MOST_RESTARTS}, not {text!r}")
    return int(text)
