"""The consoles of all ranks as one: each a file, each line marked with its rank where there are several.

No Django, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from steersman.agent.journals.console import ConsoleRead, ConsoleTail


def console_path(folder: Path, rank: int) -> Path:
    """Return the file that a rank prints into."""
    return folder / ("console.log" if rank == 0 else f"console-{rank:04d}.log")


@dataclass(frozen=True, slots=True)
class ConsolesRead:
    """Lines of all ranks, how many bytes were skipped over the bound, and where the next reads start."""

    lines: list[str]
    skipped_bytes: int
    reads: dict[int, ConsoleRead]

    @property
    def offsets(self) -> dict[int, int]:
        return {rank: read.offset for rank, read in self.reads.items()}


class Consoles:
    """Reads the consoles of an attempt from `offsets` by rank."""

    def __init__(self, folder: Path, offsets: Mapping[int, int]) -> None:
        self._tails = {rank: ConsoleTail(console_path(folder, rank), offset) for rank, offset in offsets.items()}

    def read(self, ended: bool = False) -> ConsolesRead | None:
        """Return what came since the offsets, None where nothing did. They move only by `advance`."""
        reads = {rank: tail.read(ended) for rank, tail in self._tails.items()}
        moved = {rank: read for rank, read in reads.items() if read.offset != self._tails[rank].offset}
        if not moved:
            return None
        several = len(self._tails) > 1
        lines = [f"[{rank}] {line}" if several else line for rank, read in moved.items() for line in read.lines]
        return ConsolesRead(lines, sum(read.skipped_bytes for read in moved.values()), moved)

    def advance(self, read: ConsolesRead) -> None:
        """Go on behind what was stored."""
        for rank, of_rank in read.reads.items():
            self._tails[rank].advance(of_rank)

    def last_line(self, rank: int) -> str:
        """Return the last line with text of one rank, "" where there is none."""
        return self._tails[rank].last_line()
