"""The common part of POINT records with the same names, which therefore need not be decoded one by one.

The format: `steersman.files.journal`. Standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from steersman.records.kinds import PointRecord


class PointShape(NamedTuple):
    """The first bytes of such a record, up to its names, its length, and what follows."""

    head: bytes
    length: int
    names: tuple[str, ...]
    # From bytes and the offset after the head: (number, time, step, each value, checksum).
    unpack: Callable[[bytes, int], tuple[Any, ...]]

    @classmethod
    def of(cls, record: PointRecord, data: bytes) -> PointShape:
        """Return the shape of a record whose bytes in a journal are `data`."""
        names = tuple(record.values)
        following = struct.Struct(f"<Qdq{len(names)}dI")
        return cls(data[: len(data) - following.size], len(data), names, following.unpack_from)
