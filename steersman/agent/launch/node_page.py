"""Access to a node's page of shared memory for the processes that connect the nodes. No Django, no torch.

`steersman.ranks.barrier` describes the page. `LeaderPage` is the page of the first node; `node_client` writes those of
the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steersman.ranks.barrier import (
    BARRIER,
    BARRIER_SEEN,
    DECISION_COUNT,
    END_FAILED,
    END_FINISHED,
    LEFT_OUT,
    NODES,
    REMOTE,
    REQUEST_COUNTER,
    REQUEST_KINDS,
    ROW_ARRIVED,
    ROW_BOUNDARY,
    ROW_ENDED,
    ROW_EPOCH,
    ROW_PID,
    ROW_REQUESTS,
    ROW_STEP,
    ROW_VOTES,
    open_page,
    problem_path,
    row_of,
    write_problem,
)

# The words of a rank's row that its node reports, in this order.
REPORTED_WORDS = (
    ROW_BOUNDARY,
    ROW_STEP,
    ROW_EPOCH,
    ROW_ARRIVED,
    ROW_PID,
    ROW_VOTES,
    ROW_VOTES + 1,
    *range(ROW_REQUESTS, ROW_REQUESTS + len(REQUEST_KINDS)),
    ROW_ENDED,
)


class LeaderPage:
    """The page of the first node, with the rows of ranks on other nodes as their nodes reported them."""

    def __init__(self, folder: Path, ranks: int, own: Sequence[int], nodes: int) -> None:
        """`own` are the ranks of this node."""
        self.folder = folder
        self.words = open_page(folder, ranks)
        self.words[NODES] = nodes
        # The last sent rows of each rank, and the remote ranks whose rows may have changed.
        self.rows: dict[int, list[int]] = {}
        self._own = list(own)
        self._touched = {rank for rank in range(ranks) if rank not in own}

    def write_row(self, rank: int, values: Sequence[int]) -> None:
        """Write in the order of `REPORTED_WORDS`: first a rank's step, then where it waits, and its end last."""
        words, row = self.words, row_of(rank)
        self._touched.add(rank)
        requests = 0
        for place, value in zip(REPORTED_WORDS, values, strict=True):
            if place == ROW_PID:
                value = REMOTE if value else 0
            if place >= ROW_REQUESTS:
                requests += words[row + place] != value
            if place == ROW_ENDED and words[row + ROW_ENDED] == END_FAILED:
                continue
            words[row + place] = value
        if requests:
            words[REQUEST_COUNTER] += 1

    def mark_failed(self, rank: int) -> None:
        """Mark a remote rank as failed, so that no rank waits for it."""
        self._touched.add(rank)
        if self.words[row_of(rank) + ROW_ENDED] != END_FINISHED:
            self.words[row_of(rank) + ROW_ENDED] = END_FAILED

    def write_problem(self, rank: int, votes: int, problem: str) -> None:
        write_problem(self.folder, rank, votes, problem)

    def changed_rows(self) -> set[int]:
        """Return the ranks whose `rows` have changed since the last call."""
        words = self.words
        changed = set()
        for rank in (*self._own, *self._touched):
            row = row_of(rank)
            # The end is read first: everything that was written before it is then visible.
            ended = words[row + ROW_ENDED]
            state = [words[row + ROW_VOTES], words[row + ROW_VOTES + 1], int(words[row + ROW_PID] != 0), ended]
            if state != self.rows.get(rank):
                self.rows[rank] = state
                changed.add(rank)
        self._touched.clear()
        return changed

    def barrier_state(self) -> tuple[int, int, int]:
        """Return the barrier, whether ranks are left out, and the number of decisions.

        Call it after `changed_rows`. The number is read last: if the barrier is cleared, its decision is counted.
        """
        return self.words[BARRIER], self.words[LEFT_OUT], self.words[DECISION_COUNT]

    def is_unseen(self, barrier: int) -> bool:
        """Return whether there is a barrier that is not marked yet as seen by all nodes."""
        return barrier != 0 and self.words[BARRIER_SEEN] != barrier

    def mark_seen(self, barrier: int) -> None:
        """Report to the leader that all nodes have seen this barrier."""
        self.words[BARRIER_SEEN] = barrier

    def read_decisions(self, position: int, count: int) -> bytes:
        """Return `count` lines of the leader's decisions, starting at byte `position`."""
        with (self.folder / "decisions.jsonl").open("rb") as file:
            file.seek(position)
            return b"".join(file.readline() for _ in range(count))

    def problems_of(self, ranks: Sequence[int]) -> list[list[Any]]:
        return [text for rank in ranks for text in problems_of(self.folder, rank, self.rows)]


def problems_of(folder: Path, rank: int, rows: dict[int, list[int]]) -> list[list[Any]]:
    """Return the problems of a rank's latest votes, each as its rank, the number of the vote, and the text."""
    found = []
    for vote in rows[rank][:2]:
        if vote & 1:
            # The file is complete before the vote is visible.
            found.append([rank, vote // 2, problem_path(folder, rank, vote // 2).read_text(encoding="utf-8")])
    return found
