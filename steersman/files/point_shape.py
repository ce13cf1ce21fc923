"""The common part of POINT records with the same names, which avoids decoding them one by one.

`steersman.files.journal` describes the format. Standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from steersman.records.kinds import PointRecord


class PointShape(NamedTuple):
    """The first bytes of such a record up to its names, its length, and the rest."""

    head: bytes
    length: int
    names: tuple[str, ...]
    # From bytes and the offset after the head to (number, time, step, each value, checksum).
    unpack: Callable[[bytes, int], tuple[Any, ...]]

    @classmethod
    def of(cls, record: PointRecord, data: bytes) -> PointShape:
        """Return the shape of a record with the bytes `data` in a journal."""
        names = tuple(record.values)
        following = struct.Struct(f"<Qdq{len(names)}dI")
        return cls(data[: len(data) - following.size], len(data), names, following.unpack_from)
