"""The barrier of the ranks of a training: a page of shared memory, and waiting for one another. Standard library only.

The file `ranks` holds 8-byte words: a few for all, then a row for each rank, which only that rank writes. There is no
lock and no collective: a rank that waits reads the words again after a short sleep. If a training has several nodes,
each has such a page, and the processes that connect the nodes write the rows of remote ranks.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from steersman.files.mailbox import PAGE_BYTES
from steersman.files.private import write_private
from steersman.files.processes import is_alive

WORD = 0xFFFF_FFFF_FFFF_FFFF
# Words for all: the step boundary at which all ranks wait (0: none), how many decisions there are, a counter of
# requests that signals made of any rank, and whether ranks that never attached are left out. Only on the leader's page:
# how many nodes there are (0 if only one), and the latest barrier that all of them have seen.
BARRIER, DECISION_COUNT, REQUEST_COUNTER, LEFT_OUT, NODES, BARRIER_SEEN = 0, 1, 2, 3, 4, 5
FIRST_ROW, ROW_WORDS = 8, 16
# Words of a rank's row: step boundaries reached, the one at which it waits, its step and epoch there, whether it has
# finished (1) or failed (2), its process, its two latest votes, and how many requests of each kind signals made of it.
END_FINISHED, END_FAILED = 1, 2
ROW_BOUNDARY, ROW_ARRIVED, ROW_STEP, ROW_EPOCH, ROW_ENDED, ROW_PID, ROW_VOTES, ROW_REQUESTS = 0, 1, 2, 3, 4, 5, 6, 8
# Instead of the process of a rank on another node, which does not exist on this one.
REMOTE = 1 << 63
REQUEST_KINDS = ("stop", "save_checkpoint", "save_hourly", "evaluate", "pause", "resume")

SHORTEST_SLEEP_S = 50e-6
LONGEST_SLEEP_S = 2e-3
PEERS_INTERVAL_S = 0.5


class PeerLost(RuntimeError):
    """Another rank of this training has died, so this one would wait for ever."""


class OutOfStep(RuntimeError):
    """The ranks have not passed the same step boundaries: one read `run.stopping` more often than another."""


def open_page(folder: Path, ranks: int) -> memoryview:
    """Return the words of the page in `folder`, which is made if it is not there. Raises `OSError`."""
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
    """Return the file that holds what was wrong on a rank at its vote number `votes`."""
    return folder / f"problem-{rank:04d}-{votes % 2}"


def write_problem(folder: Path, rank: int, votes: int, problem: str) -> None:
    path = problem_path(folder, rank, votes)
    temporary = path.with_suffix(".new")
    # A surrogate cannot be written; the text that a reader gets is cleaned when it is recorded.
    write_private(temporary, problem.encode(errors="replace").decode())
    os.replace(temporary, path)


class RankBarrier:
    """One rank's view of the page. `words` is the memory itself, `own_row` the place where this rank's row begins."""

    def __init__(self, folder: Path, rank: int, ranks: int) -> None:
        self._folder = folder
        self.rank = rank
        self.ranks = ranks
        self.words = open_page(folder, ranks)
        self.own_row = self.row(rank)
        self._votes = 0
        self.words[self.own_row + ROW_PID] = os.getpid()

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
        return [rank for rank in range(self.ranks) if not self.words[self.row(rank) + ROW_PID]]

    def is_seen_by_all_nodes(self, boundary: int) -> bool:
        """Return whether all nodes have seen the barrier at `boundary`, and sent how far their ranks were then."""
        return self.words[NODES] == 0 or self.words[BARRIER_SEEN] == boundary

    def has_finished(self, rank: int) -> bool:
        return self.words[self.row(rank) + ROW_ENDED] == END_FINISHED

    def mark_ended(self, failed: bool) -> None:
        """Record that this rank passes no further step boundary."""
        self.words[self.own_row + ROW_ENDED] = END_FAILED if failed else END_FINISHED

    def farthest_boundary(self) -> int:
        """Return the largest number of step boundaries that a rank has reached."""
        return max(self.words[self.row(rank) + ROW_BOUNDARY] for rank in (self.rank, *self.others))

    def request(self, kind: str) -> None:
        """Request `kind` of the leader. A signal handler may call this: it takes no lock."""
        self.words[self.own_row + ROW_REQUESTS + REQUEST_KINDS.index(kind)] += 1
        self.words[REQUEST_COUNTER] += 1

    def requests(self, kind: str) -> int:
        """Return how often `kind` was requested of all ranks together."""
        place = ROW_REQUESTS + REQUEST_KINDS.index(kind)
        return sum(self.words[self.row(rank) + place] for rank in range(self.ranks))

    def arrive(self, boundary: int, step: int, epoch: int) -> None:
        """Record that this rank waits at its step boundary number `boundary`."""
        row = self.own_row
        self.words[row + ROW_STEP] = step & WORD
        self.words[row + ROW_EPOCH] = epoch & WORD
        self.words[row + ROW_ARRIVED] = boundary

    def absent(self, boundary: int) -> list[int]:
        """Return the ranks that do not wait at this step boundary yet."""
        return [rank for rank in self.others if self.words[self.row(rank) + ROW_ARRIVED] != boundary]

    def differing(self, place: int, own: int) -> tuple[int, int] | None:
        """Return a rank whose ROW_STEP or ROW_EPOCH differs from `own`, and its value; None if all are alike."""
        for rank in self.others:
            theirs = self.words[self.row(rank) + place]
            if theirs != own & WORD:
                return rank, theirs
        return None

    def vote(self, problem: str) -> dict[int, str]:
        """Vote, wait for the votes of all other ranks, and return what was wrong by rank: {} if nothing was.

        Every rank must call this equally often. Raises `PeerLost`.
        """
        self._votes += 1
        # Alternate two words: a rank that is ahead must not overwrite a vote that a slow one has still to read.
        place = ROW_VOTES + self._votes % 2
        if problem:
            write_problem(self._folder, self.rank, self._votes, problem)
        self.words[self.own_row + place] = self._votes * 2 + bool(problem)
        self.wait(lambda: all(self.words[self.row(rank) + place] >= self._votes * 2 for rank in self.others))
        found = {}
        for rank in range(self.ranks):
            # Among all that voted: one may have finished since.
            if self.words[self.row(rank) + place] == self._votes * 2 + 1:
                found[rank] = problem_path(self._folder, rank, self._votes).read_text(encoding="utf-8")
        return found

    def wait(self, reached: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until `reached()`; return whether it was within `timeout_s`. Raises `PeerLost`."""
        began = checked_at = time.monotonic()
        pause = SHORTEST_SLEEP_S
        while not reached():
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_SLEEP_S)
            now = time.monotonic()
            if timeout_s is not None and now - began > timeout_s:
                return reached()
            if now - checked_at > PEERS_INTERVAL_S:
                checked_at = now
                self.check_peers()
        return True

    def check_peers(self) -> None:
        """Raise `PeerLost` if another rank has failed, or is gone although its training had not finished."""
        for rank in self.others:
            row = self.row(rank)
            pid = self.words[row + ROW_PID]
            here = pid and not pid & REMOTE
            dead = here and not is_alive(pid) and not self.has_finished(rank)
            if dead or self.words[row + ROW_ENDED] == END_FAILED:
                raise PeerLost(f"rank {rank} has died; this rank waited for it")
