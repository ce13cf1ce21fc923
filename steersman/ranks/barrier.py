"""Where the ranks of a training meet: a page of shared memory, and waiting for one another. Standard library only.

The file `ranks` holds 8-byte words: a few for all, then a row for each rank, which only that rank writes. Nobody waits
for a lock or a collective: who waits looks again after a short sleep. Where a training has several nodes, each has such
a page, and whoever carries word between them writes the rows of ranks elsewhere.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from steersman.files.private import write_private

PAGE_BYTES = 4096
WORD = 0xFFFF_FFFF_FFFF_FFFF
# Words for all: the step boundary at which everybody waits (0: none), how many decisions there are, one that changes
# when a rank was asked for something by a signal, and whether ranks that never attached are left out. Of the leader's
# page alone: how many nodes there are (0 where only one), and the latest hold that all of them know.
HOLD, DECIDED, CALLED, LEFT_OUT, NODES, KNOWN = 0, 1, 2, 3, 4, 5
FIRST_ROW, ROW_WORDS = 8, 16
# Words of a rank: step boundaries reached, the one at which it waits, its step and epoch there, whether it has finished
# (1) or failed (2), its process, its two latest votes, and how often it was asked for something by a signal.
FINISHED, FAILED = 1, 2
POINTS, ARRIVED, STEP, EPOCH, ENDED, PID, VOTES, CALLS = 0, 1, 2, 3, 4, 5, 6, 8
# In place of a process that is on another node, and not to be looked for on this one.
ELSEWHERE = 1 << 63
CALL_KINDS = ("stop", "save_checkpoint", "save_hourly", "evaluate", "pause", "resume")

SHORTEST_SLEEP_S = 50e-6
LONGEST_SLEEP_S = 2e-3
PEERS_INTERVAL_S = 0.5


class PeerLost(RuntimeError):
    """Another rank of this training has died, so that this one would wait for ever."""


class OutOfStep(RuntimeError):
    """The ranks have not passed the same step boundaries: one looked at `run.stopping` more often than another."""


def open_page(folder: Path, ranks: int) -> memoryview:
    """Return the words of the page in `folder`, which is made where it is not there. Raises `OSError`."""
    size = -(-8 * (FIRST_ROW + ROW_WORDS * ranks) // PAGE_BYTES) * PAGE_BYTES
    descriptor = os.open(folder / "ranks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Whole before it is mapped; what other ranks have written there already stays.
        os.posix_fallocate(descriptor, 0, size)
        return memoryview(mmap.mmap(descriptor, size)).cast("Q")
    finally:
        os.close(descriptor)


def row_of(rank: int) -> int:
    """Return where the row of a rank begins."""
    return FIRST_ROW + ROW_WORDS * rank


def problem_path(folder: Path, rank: int, votes: int) -> Path:
    """Return the file in which a rank says what was wrong, at its vote number `votes`."""
    return folder / f"problem-{rank:04d}-{votes % 2}"


def write_problem(folder: Path, rank: int, votes: int, problem: str) -> None:
    path = problem_path(folder, rank, votes)
    temporary = path.with_suffix(".new")
    # A surrogate cannot be written; what a reader makes of the rest is cleaned where it is recorded.
    write_private(temporary, problem.encode(errors="replace").decode())
    os.replace(temporary, path)


class Meeting:
    """One rank's view of the page. `words` is the memory itself, `mine` where this rank's row begins."""

    def __init__(self, folder: Path, rank: int, ranks: int) -> None:
        self._folder = folder
        self.rank = rank
        self.ranks = ranks
        self.words = open_page(folder, ranks)
        self.mine = self.row(rank)
        self._votes = 0
        self.words[self.mine + PID] = os.getpid()

    def row(self, rank: int) -> int:
        return row_of(rank)

    @property
    def others(self) -> list[int]:
        """Return the ranks beside this one that take part and have not finished."""
        left_out = self.unattached() if self.words[LEFT_OUT] else ()
        return [
            rank
            for rank in range(self.ranks)
            if rank != self.rank and rank not in left_out and not self.has_finished(rank)
        ]

    def unattached(self) -> list[int]:
        """Return the ranks that have not called `steersman.attach()`."""
        return [rank for rank in range(self.ranks) if not self.words[self.row(rank) + PID]]

    def is_known(self, hold: int) -> bool:
        """Tell whether ranks on all nodes look at this hold, and how far they were when they first did."""
        return self.words[NODES] == 0 or self.words[KNOWN] == hold

    def has_finished(self, rank: int) -> bool:
        return self.words[self.row(rank) + ENDED] == FINISHED

    def end(self, failed: bool) -> None:
        """Tell that this rank passes no further step boundary."""
        self.words[self.mine + ENDED] = FAILED if failed else FINISHED

    def farthest(self) -> int:
        """Return the largest number of step boundaries that a rank has reached."""
        return max(self.words[self.row(rank) + POINTS] for rank in (self.rank, *self.others))

    def call(self, kind: str) -> None:
        """Ask the leader for `kind`; fit for a signal handler: it takes no lock."""
        self.words[self.mine + CALLS + CALL_KINDS.index(kind)] += 1
        self.words[CALLED] += 1

    def calls(self, kind: str) -> int:
        """Return how often all ranks together were asked for `kind`."""
        place = CALLS + CALL_KINDS.index(kind)
        return sum(self.words[self.row(rank) + place] for rank in range(self.ranks))

    def arrive(self, points: int, step: int, epoch: int) -> None:
        """Tell that this rank waits at its step boundary number `points`."""
        row = self.mine
        self.words[row + STEP] = step & WORD
        self.words[row + EPOCH] = epoch & WORD
        self.words[row + ARRIVED] = points

    def absent(self, points: int) -> list[int]:
        """Return the ranks that do not wait at this step boundary yet."""
        return [rank for rank in self.others if self.words[self.row(rank) + ARRIVED] != points]

    def differing(self, place: int, own: int) -> tuple[int, int] | None:
        """Return a rank whose STEP or EPOCH where it waits is not `own`, and that; None where all are alike."""
        for rank in self.others:
            theirs = self.words[self.row(rank) + place]
            if theirs != own & WORD:
                return rank, theirs
        return None

    def agree(self, problem: str) -> dict[int, str]:
        """Vote, wait for the vote of all other ranks, and return what was wrong by rank: {} where nothing was.

        Every rank must call this equally often. Raises `PeerLost`.
        """
        self._votes += 1
        # Two words in turn: a rank that is ahead must not write over what a slow one has still to read.
        place = VOTES + self._votes % 2
        if problem:
            write_problem(self._folder, self.rank, self._votes, problem)
        self.words[self.mine + place] = self._votes * 2 + bool(problem)
        self.wait(lambda: all(self.words[self.row(rank) + place] >= self._votes * 2 for rank in self.others))
        found = {}
        for rank in range(self.ranks):
            # Of all that voted: one may have finished since.
            if self.words[self.row(rank) + place] == self._votes * 2 + 1:
                found[rank] = problem_path(self._folder, rank, self._votes).read_text(encoding="utf-8")
        return found

    def wait(self, reached: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until `reached()`; return whether it was within `timeout_s`. Raises `PeerLost`."""
        began = looked_at = time.monotonic()
        pause = SHORTEST_SLEEP_S
        while not reached():
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_SLEEP_S)
            now = time.monotonic()
            if timeout_s is not None and now - began > timeout_s:
                return reached()
            if now - looked_at > PEERS_INTERVAL_S:
                looked_at = now
                self.check_peers()
        return True

    def check_peers(self) -> None:
        """Raise `PeerLost` where another rank has failed, or is gone although its training had not finished."""
        for rank in self.others:
            row = self.row(rank)
            pid = self.words[row + PID]
            here = pid and not pid & ELSEWHERE
            dead = here and not _lives(pid) and not self.has_finished(rank)
            if dead or self.words[row + ENDED] == FAILED:
                raise PeerLost(f"rank {rank} has died; this rank waited for it")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
