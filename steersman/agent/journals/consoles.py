"""Reads the consoles of all ranks as one. Each is a file; with several ranks, each line is marked with its rank.

No Django, no torch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from steersman.agent.journals.console import (
    LARGEST_BURST_BYTES,
    LARGEST_OTHER_BURSTS_BYTES,
    ConsoleRead,
    ConsoleTail,
)

# A line without a line break, such as a progress bar, is reported again after this time if it has changed.
UNFINISHED_EVERY_S = 0.5
MOST_UNFINISHED = 16


def console_path(folder: Path, rank: int) -> Path:
    """Return the console file of a rank."""
    return folder / ("console.log" if rank == 0 else f"console-{rank:04d}.log")


@dataclass(frozen=True, slots=True)
class ConsolesRead:
    """Lines of all ranks, the number of skipped bytes, and where the next reads start.

    `unfinished` has the lines without a line break, None if they have not changed.
    """

    lines: list[str]
    skipped_bytes: int
    reads: dict[int, ConsoleRead]
    unfinished: list[str] | None = None

    @property
    def offsets(self) -> dict[int, int]:
        return {rank: read.offset for rank, read in self.reads.items()}


class Consoles:
    """Reads the consoles of an attempt from `offsets` by rank."""

    def __init__(self, folder: Path, offsets: Mapping[int, int]) -> None:
        others = min(LARGEST_BURST_BYTES, LARGEST_OTHER_BURSTS_BYTES // max(1, len(offsets) - 1))
        self._tails = {
            rank: ConsoleTail(console_path(folder, rank), offset, others if rank else LARGEST_BURST_BYTES)
            for rank, offset in offsets.items()
        }
        # The reports of an earlier supervisor are unknown, except that it reported nothing about a console without
        # output.
        has_output = any(offsets.values()) or any(tail.has_output() for tail in self._tails.values())
        self._told: list[str] | None = None if has_output else []
        self._told_at = 0.0

    def read(self, ended: bool = False) -> ConsolesRead | None:
        """Return the text after the offsets, None if there is none. The offsets are only moved by `advance`."""
        reads = {rank: tail.read(ended) for rank, tail in self._tails.items()}
        moved = {rank: read for rank, read in reads.items() if read.offset != self._tails[rank].offset}
        lines = [self._marked(rank, line) for rank, read in moved.items() for line in read.lines]
        skipped_bytes = sum(read.skipped_bytes for read in moved.values())
        unfinished = [self._marked(rank, read.unfinished) for rank, read in reads.items() if read.unfinished]
        news = self._news(unfinished[:MOST_UNFINISHED], at_once=ended or bool(lines))
        if not (lines or skipped_bytes or news is not None):
            return None
        return ConsolesRead(lines, skipped_bytes, moved, news)

    def _news(self, unfinished: list[str], at_once: bool) -> list[str] | None:
        if unfinished == self._told or not (at_once or time.monotonic() - self._told_at >= UNFINISHED_EVERY_S):
            return None
        return unfinished

    def _marked(self, rank: int, line: str) -> str:
        return f"[{rank}] {line}" if len(self._tails) > 1 else line

    def advance(self, read: ConsolesRead) -> None:
        """Continue after the stored position."""
        for rank, of_rank in read.reads.items():
            self._tails[rank].advance(of_rank)
        if read.unfinished is not None:
            self._told, self._told_at = read.unfinished, time.monotonic()

    def last_line(self, rank: int) -> str:
        """Return the last line of a rank that is not blank, "" if there is none."""
        return self._tails[rank].last_line()
