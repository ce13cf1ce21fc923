"""The barrier of the ranks of a training, in a page of shared memory. Standard library only.

The file `ranks` has 8-byte words: a few for all ranks, then a row for each rank, which only that rank writes. There is
no lock and no collective: a waiting rank reads the words again after a short sleep. If a training has several nodes,
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
# Words for all ranks: the step boundary at which all ranks wait (0: none), the number of decisions, a counter of
# requests by signals on any rank, and whether ranks that never attached are left out. Only on the leader's page: the
# number of nodes (0 for a single one), and the latest barrier that all of them have seen.
BARRIER, DECISION_COUNT, REQUEST_COUNTER, LEFT_OUT, NODES, BARRIER_SEEN = 0, 1, 2, 3, 4, 5
FIRST_ROW, ROW_WORDS = 8, 16
# Words of a rank's row: step boundaries reached, the one at which it waits, its step and epoch there, whether it has
# finished (1) or failed (2), its process, its two latest votes, and the number of requests of each kind by signals.
END_FINISHED, END_FAILED = 1, 2
ROW_BOUNDARY, ROW_ARRIVED, ROW_STEP, ROW_EPOCH, ROW_ENDED, ROW_PID, ROW_VOTES, ROW_REQUESTS = 0, 1, 2, 3, 4, 5, 6, 8
# Used as the process of a rank on another node, because its pid does not exist on this one.
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
    """Return the words of the page in `folder`, which is created if it does not exist. Raises `OSError`."""
    size = -(-8 * (FIRST_ROW + ROW_WORDS * ranks) // PAGE_BYTES) * PAGE_BYTES
    descriptor = os.open(folder / "ranks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Allocated before it is mapped; words that other ranks have written stay.
        os.posix_fallocate(descriptor, 0, size)
        return memoryview(mmap.mmap(descriptor, size)).cast("Q")
    finally:
        os.close(descriptor)


def row_of(rank: int) -> int:
    """Return the index of the first word of a rank's row."""
    return FIRST_ROW + ROW_WORDS * rank


def problem_path(folder: Path, rank: int, votes: int) -> Path:
    """Return the file with a rank's problem at its vote number `votes`."""
    return folder / f"problem-{rank:04d}-{votes % 2}"


def write_problem(folder: Path, rank: int, votes: int, problem: str) -> None:
    path = problem_path(folder, rank, votes)
    temporary = path.with_suffix(".new")
    # Surrogates cannot be encoded; the text is cleaned when it is recorded.
    write_private(temporary, problem.encode(errors="replace").decode())
    os.replace(temporary, path)


class RankBarrier:
    """One rank's view of the page. `words` is the memory itself, `own_row` the index of this rank's row."""

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
        """Return the other ranks that take part and have not finished."""
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
        """Return whether all nodes have seen the barrier at `boundary`, and reported how far their ranks were then."""
        return self.words[NODES] == 0 or self.words[BARRIER_SEEN] == boundary

    def has_finished(self, rank: int) -> bool:
        return self.words[self.row(rank) + ROW_ENDED] == END_FINISHED

    def mark_ended(self, failed: bool) -> None:
        """Record that this rank will pass no further step boundary."""
        self.words[self.own_row + ROW_ENDED] = END_FAILED if failed else END_FINISHED

    def farthest_boundary(self) -> int:
        """Return the largest number of step boundaries that a rank has reached."""
        return max(self.words[self.row(rank) + ROW_BOUNDARY] for rank in (self.rank, *self.others))

    def request(self, kind: str) -> None:
        """Request `kind` from the leader. It takes no lock, so a signal handler may call it."""
        self.words[self.own_row + ROW_REQUESTS + REQUEST_KINDS.index(kind)] += 1
        self.words[REQUEST_COUNTER] += 1

    def requests(self, kind: str) -> int:
        """Return how often `kind` was requested, on all ranks together."""
        place = ROW_REQUESTS + REQUEST_KINDS.index(kind)
        return sum(self.words[self.row(rank) + place] for rank in range(self.ranks))

    def arrive(self, boundary: int, step: int, epoch: int) -> None:
        """Record that this rank waits at its step boundary number `boundary`."""
        row = self.own_row
        self.words[row + ROW_STEP] = step & WORD
        self.words[row + ROW_EPOCH] = epoch & WORD
        self.words[row + ROW_ARRIVED] = boundary

    def absent(self, boundary: int) -> list[int]:
        """Return the ranks that are not waiting at this step boundary yet."""
        return [rank for rank in self.others if self.words[self.row(rank) + ROW_ARRIVED] != boundary]

    def differing(self, place: int, own: int) -> tuple[int, int] | None:
        """Return a rank whose ROW_STEP or ROW_EPOCH differs from `own`, and its value; None if all are equal."""
        for rank in self.others:
            theirs = self.words[self.row(rank) + place]
            if theirs != own & WORD:
                return rank, theirs
        return None

    def vote(self, problem: str) -> dict[int, str]:
        """Vote, wait for the votes of all other ranks, and return the problems by rank: {} if there are none.

        Every rank must call this equally often. Raises `PeerLost`.
        """
        self._votes += 1
        # Two words alternate, so that a fast rank does not overwrite a vote that a slow one has not read yet.
        place = ROW_VOTES + self._votes % 2
        if problem:
            write_problem(self._folder, self.rank, self._votes, problem)
        self.words[self.own_row + place] = self._votes * 2 + bool(problem)
        self.wait(lambda: all(self.words[self.row(rank) + place] >= self._votes * 2 for rank in self.others))
        found = {}
        for rank in range(self.ranks):
            # Among all ranks that voted, including those that have finished since.
            if self.words[self.row(rank) + place] == self._votes * 2 + 1:
                found[rank] = problem_path(self._folder, rank, self._votes).read_text(encoding="utf-8")
        return found

    def wait(self, reached: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until `reached()`; return whether it was true within `timeout_s`. Raises `PeerLost`."""
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
        """Raise `PeerLost` if another rank has failed, or ended before its training had finished."""
        for rank in self.others:
            row = self.row(rank)
            pid = self.words[row + ROW_PID]
            here = pid and not pid & REMOTE
            dead = here and not is_alive(pid) and not self.has_finished(rank)
            if dead or self.words[row + ROW_ENDED] == END_FAILED:
                raise PeerLost(f"rank {rank} has died; this rank waited for it")
