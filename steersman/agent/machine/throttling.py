"""Reports why a GPU is throttled, whenever the reasons change. Imports neither Django nor torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# An idle GPU lowers its clocks too, which is not reported. Bits as in NVML's header.
IDLE = 0x1
THROTTLE_REASONS = {
    0x2: "its clocks are set lower",
    0x4: "it draws all the power that its limit allows",
    0x8: "its hardware asked for it",
    0x10: "its clock is synchronised with other GPUs",
    0x20: "its driver reports that it is too hot",
    0x40: "its hardware reports that it is too hot",
    0x80: "its power supply is at its limit",
    0x100: "it drives a display",
}
# Power limits are normal; these require attention.
SERIOUS = 0x8 | 0x20 | 0x40 | 0x80
# Near a limit the reasons flicker, so messages about a GPU are at least this far apart.
QUIET_S = 60.0


@dataclass(frozen=True, slots=True)
class ThrottleNote:
    """A line for all viewers."""

    text: str
    level: Literal["info", "warning"]


class ThrottleWatch:
    """Remembers the last message about each GPU."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[int, float]] = {}

    def changes(self, masks: Mapping[str, int], now: float) -> list[ThrottleNote]:
        """Return the messages about GPUs with these reasons by name; `now` in seconds of a monotonic clock."""
        notes = []
        for name, mask in masks.items():
            reasons = mask & ~IDLE
            said, said_at = self._said.get(name, (0, -QUIET_S))
            if reasons == said or now - said_at < QUIET_S:
                continue
            self._said[name] = (reasons, now)
            notes.append(_note(name, reasons, said))
        return notes


def _note(name: str, reasons: int, before: int) -> ThrottleNote:
    if not reasons:
        return ThrottleNote(f"GPU {name} is no longer throttled.", "info")
    known = [text for bit, text in THROTTLE_REASONS.items() if reasons & bit]
    unknown = reasons & ~sum(THROTTLE_REASONS)
    if unknown:
        known.append(f"NVML reports the reason {unknown:#x}")
    level: Literal["info", "warning"] = "warning" if reasons & SERIOUS & ~before else "info"
    return ThrottleNote(f"GPU {name} is throttled: {', and '.join(known)}.", level)
