"""The free space of the disks to which a training writes, and when it is little."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class DiskDefaults:
    """A disk is nearly full if both less than `part` of it and less than `bytes_left` is free.

    There is room again when `room` times either limit is free, so that files that come and go around the limit make one
    alert.
    """

    part: float = 0.05
    bytes_left: int = 20 * GIB
    room: float = 1.5

    def limit(self, total: int) -> float:
        """Return the number of free bytes below which a disk of `total` bytes is nearly full."""
        return min(self.part * total, self.bytes_left)

    def is_full(self, free: int, total: int) -> bool:
        return free < self.limit(total)

    def is_well(self, free: int, total: int) -> bool:
        return free >= self.room * self.limit(total)


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The free and the total bytes of the disk with the least space, of those to which a training writes."""

    free: int
    total: int

    def __str__(self) -> str:
        return f"{self.free / GIB:.1f} GiB of {self.total / GIB:.1f} GiB are free"

    @property
    def scarcity(self) -> float:
        """The free space as a fraction of the limit below which a disk is nearly full."""
        return self.free / max(DiskDefaults().limit(self.total), 1)

    @property
    def is_full(self) -> bool:
        return DiskDefaults().is_full(self.free, self.total)

    @property
    def is_well(self) -> bool:
        return DiskDefaults().is_well(self.free, self.total)
