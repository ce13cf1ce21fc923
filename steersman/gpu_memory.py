"""Whether a GPU has memory for another training, by the readings of the driver. Imports neither Django nor torch.

All sizes are in MiB. docs/running.md describes the rule.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

MIB_A_GIB = 1024
# The memory that a driver, a desktop and a monitor use, on a card of any size.
LEAST_ALLOWANCE_MIB = 1024
MOST_MIB = 2**31 - 1
SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([GM])(?:iB|B)?", re.IGNORECASE)


class Obstacle(str, Enum):
    """Why a run cannot have a GPU: other programs use it, its memory is taken, or it is too small in any case."""

    OTHERS = "others"
    TAKEN = "taken"
    TOO_SMALL = "too_small"


@dataclass(frozen=True, slots=True)
class GpuRoom:
    """The memory of a GPU: `total`, `others` of it used by programs that are not ours, `allowed` to them, `free` for
    another training, and `usual`, the assumed need of a training that does not declare one.
    """

    total: int
    others: int
    allowed: int
    free: int
    usual: int

    def need(self, asked: int | None) -> int:
        return self.usual if asked is None else asked

    def obstacle(self, asked: int | None) -> Obstacle | None:
        """Return why a run that needs `asked` MiB (None: the usual need) cannot use this GPU, None if it can."""
        if self.need(asked) > self.total:
            return Obstacle.TOO_SMALL
        if self.others > self.allowed:
            return Obstacle.OTHERS
        return Obstacle.TAKEN if self.need(asked) > self.free else None

    def as_wire(self) -> dict[str, int]:
        return {
            "others_mib": self.others, "allowed_mib": self.allowed, "free_mib": self.free, "usual_mib": self.usual
        }  # fmt: skip

    @classmethod
    def of(cls, device: Mapping[str, object]) -> GpuRoom | None:
        """Return the room of a GPU as a host published it, None if its memory is unknown."""
        names = ("memory_total_mib", "others_mib", "allowed_mib", "free_mib", "usual_mib")
        values = [device.get(name) for name in names]
        numbers = [value for value in values if isinstance(value, int)]
        return cls(*numbers) if len(numbers) == len(names) else None


def room(
    *, total: int, used: int, own_used: int | None, needs: Sequence[int | None], slots: int, share: float
) -> GpuRoom:
    """Return the room of a GPU with `used` MiB in use, `own_used` of these by our trainings (None: unknown).

    `needs` has an entry for each of our trainings that holds a slot of it: the declared need, or None. Other programs
    may use `share` of the memory, and `slots` trainings share the rest evenly.
    """
    allowed = max(round(share * total), LEAST_ALLOWANCE_MIB)
    usual = max(0, total - allowed) // max(1, slots)
    if own_used is None:
        # Processes of other containers have other pids: if our trainings use the GPU, all its memory counts as theirs.
        own_used = used if needs else 0
    others = max(0, used - own_used)
    # A training that has just started does not use its memory yet.
    spoken_for = max(own_used, sum(usual if need is None else need for need in needs))
    return GpuRoom(total, others, allowed, total - others - spoken_for if needs else total - others, usual)


def mib_of_text(text: str) -> int:
    """Return the MiB of a size such as 10GiB, 800MiB or 24G.

    Raises `argparse.ArgumentTypeError` for an invalid text.
    """
    found = SIZE.fullmatch(text.strip())
    size = round(float(found[1]) * (MIB_A_GIB if found[2] in "gG" else 1)) if found else 0
    if not 0 < size <= MOST_MIB:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a memory size; give one such as 10GiB or 800MiB")
    return size


def gib(mib: int) -> str:
    """Return MiB as GiB for people: "61", "0.5"."""
    return f"{mib / MIB_A_GIB:.0f}" if mib >= 10 * MIB_A_GIB else f"{mib / MIB_A_GIB:.1f}"
