"""Merges the journals of all ranks into one stream: the ranks' values of a step become one point. No Django, no torch.

Records of a journal are consumed when they are stored (`advance`), and only up to the last record whose step is
complete: the next reader reads the rest again. No point is therefore lost or stored twice if a process is killed. Rank
0 determines the order; a rank that is late by more than LATE_AFTER_S is left out of that step. A rollback of several
ranks is taken from all journals at once, after all records before it in any of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice, pairwise
from pathlib import Path

from steersman.agent.journals.reduction import reduce_values
from steersman.agent.journals.tail import LARGEST_READ_BYTES, JournalTail, Read
from steersman.messages.reports import Position
from steersman.records.kinds import EndRecord, OutcomeRecord, PointRecord, RankRolledBackRecord
from steersman.records.record import Record

LATE_AFTER_S = 5.0
# The records of a rank that is ahead wait on disk instead of in memory.
MOST_HELD = 20_000


@dataclass(slots=True)
class JournalsRead:
    """Records to store together, and the positions in each rank's journal after them and before them (`begin`)."""

    records: list[Record] = field(default_factory=list)
    positions: dict[int, Position] = field(default_factory=dict)
    unreadable: int = 0
    begin: dict[int, Position] = field(default_factory=dict)
    # The number of records of each rank, and the last step by name.
    taken: dict[int, int] = field(default_factory=dict)
    last_steps: dict[str, int] = field(default_factory=dict)
    # Whether the training was rolled back, so that earlier last steps are no longer valid.
    rolled_back: bool = False
    # The points of several ranks that became one, by rank, in the order of `records`.
    by_rank: list[dict[int, PointRecord]] = field(default_factory=list)


@dataclass(slots=True)
class _Held:
    record: Record
    # Its size in the journal.
    length: int
    behind: Position
    unreadable: int
    read_at: float


class _RankLane:
    """One rank's journal, read ahead of the stored position."""

    def __init__(self, folder: Path, rank: int, position: Position) -> None:
        self.rank = rank
        self.tail = JournalTail(folder, rank, position)
        self.ahead = position
        self.held: deque[_Held] = deque()
        self.names: set[tuple[str, ...]] = set()
        self.ended = False
        # The merge waited for this rank, and it has not logged a point since.
        self.silent = False
        # Damage and segment changes after the last record in memory.
        self.unreadable = 0

    def read(self, ended: bool) -> None:
        while len(self.held) < MOST_HELD and (ended or self.tail.has_more(self.ahead)):
            read = self.tail.read(ended, self.ahead)
            if read.position == self.ahead and not read.unreadable:
                return
            now = time.monotonic()
            places = [Position(self.ahead.segment, offset, number) for offset, number, _ in read.behind]
            lengths = [two - one for one, two in pairwise([self.ahead.offset, *(offset for offset, *_ in read.behind)])]
            places[-1:] = [read.position] * bool(places)
            for record, length, place, lost in zip(read.records, lengths, places, _lost_before(read), strict=True):
                self.held.append(_Held(record, length, place, self.unreadable + lost, now))
                self.unreadable = 0
                if isinstance(record, PointRecord):
                    self.names.add(tuple(record.values))
                self.ended = self.ended or isinstance(record, EndRecord)
            if not read.records:
                self.unreadable += read.unreadable
            self.ahead = read.position

    def take_rest(self, batch: JournalsRead) -> None:
        """Add what follows the last record: damage, or the end of a segment."""
        if self.ahead != self.tail.position or self.unreadable:
            batch.positions[self.rank] = self.ahead
            batch.unreadable += self.unreadable

    def rewind(self) -> None:
        """Drop the records that were read ahead: they are read again."""
        self.held.clear()
        self.ahead = self.tail.position
        self.unreadable = 0


def _lost_before(read: Read) -> list[int]:
    """Return for each record how many were lost before it; the last one includes those up to the end."""
    totals = [unreadable for _, _, unreadable in read.behind[:-1]] + [read.unreadable]
    # A record that seems lost may follow, if a thread wrote it late. Only records that remain missing count.
    least = list(accumulate(reversed(totals), min))[::-1]
    return [after - before for before, after in pairwise([0, *least])] if read.records else []


class Journals:
    """Reads the journals of an attempt's ranks forward from committed positions."""

    def __init__(self, folder: Path, positions: Mapping[int, Position], last_steps: Mapping[str, int]) -> None:
        """`last_steps` has the last stored step of each series, so that late values are left out."""
        self._lanes = [_RankLane(folder, rank, position) for rank, position in sorted(positions.items())]
        self._last_steps = dict(last_steps)

    def has_more(self) -> bool:
        """Return whether there are unread bytes, or records that wait for other ranks."""
        return any(lane.held or lane.tail.has_more(lane.ahead) for lane in self._lanes)

    def backlog_bytes(self, batch: JournalsRead | None) -> int:
        """Return how many bytes of the journals are not stored yet. Those of `batch` count as stored."""
        positions = self.positions | (batch.positions if batch is not None else {})
        return sum(lane.tail.bytes_behind(positions[lane.rank]) for lane in self._lanes)

    @property
    def positions(self) -> dict[int, Position]:
        """Return the position up to which each rank's journal is consumed."""
        return {lane.rank: lane.tail.position for lane in self._lanes}

    def read(self, ended: bool = False, most: int | None = None) -> JournalsRead | None:
        """Return up to `most` complete records, None if there are none. If all ranks have `ended`, do not wait.

        Together they take about LARGEST_READ_BYTES of all journals, so that a report is not too large to be sent.
        """
        batch = self._read_alone(ended, most) if len(self._lanes) == 1 else self._read_together(ended, most)
        batch.begin = {lane.rank: lane.tail.position for lane in self._lanes if lane.rank in batch.positions}
        return batch if batch.positions or batch.unreadable else None

    def advance(self, batch: JournalsRead) -> None:
        """Continue after `batch`, which is stored."""
        for lane in self._lanes:
            for _ in range(batch.taken.get(lane.rank, 0)):
                lane.held.popleft()
            if lane.rank in batch.positions:
                lane.tail.advance(batch.positions[lane.rank])
            if not lane.held:
                lane.rewind()
        self._last_steps = ({} if batch.rolled_back else self._last_steps) | batch.last_steps

    def _read_alone(self, ended: bool, most: int | None) -> JournalsRead:
        (lane,) = self._lanes
        if most is None:
            lane.rewind()
            read = lane.tail.read(ended)
            moved = {lane.rank: read.position} if read.position != lane.tail.position else {}
            return JournalsRead(read.records, moved, read.unreadable)
        if not lane.held:
            lane.read(ended)
        taken = list(islice(lane.held, most))
        batch = JournalsRead([each.record for each in taken], taken={lane.rank: len(taken)})
        batch.unreadable = sum(each.unreadable for each in taken)
        if taken:
            batch.positions[lane.rank] = taken[-1].behind
        if len(taken) == len(lane.held):
            lane.take_rest(batch)
        return batch

    def _read_together(self, ended: bool, most: int | None) -> JournalsRead:
        for lane in self._lanes:
            lane.read(ended)
        merge = _Merge(self._lanes, self._last_steps, ended, most)
        merge.run()
        return merge.batch


class _Merge:
    """One pass over the records in memory: takes them from the front of each lane, in order."""

    def __init__(self, lanes: list[_RankLane], last_steps: Mapping[str, int], ended: bool, most: int | None) -> None:
        self.batch = JournalsRead()
        self._most = most
        self._lanes = lanes
        self._last_steps = last_steps
        self._ended = ended
        self._now = time.monotonic()
        self._bytes = 0
        self._queues = [deque(lane.held) for lane in lanes]

    def run(self) -> None:
        while True:
            for rank, queue in enumerate(self._queues):
                while queue and not isinstance(queue[0].record, PointRecord) and not self._is_full:
                    if rank in self._at_roll_back:
                        break
                    self._take_word(rank, self._take(rank))
            if not self._is_full and self._take_roll_back():
                continue
            fronts = {
                rank: queue[0].record
                for rank, queue in enumerate(self._queues)
                if queue and isinstance(queue[0].record, PointRecord)
            }
            if self._is_full or not fronts or not self._take_point(fronts):
                break
        for lane, queue in zip(self._lanes, self._queues, strict=True):
            if not queue:
                lane.take_rest(self.batch)

    @property
    def _at_roll_back(self) -> set[int]:
        """Return the ranks whose next record is a rollback of several ranks."""
        return {rank for rank, queue in enumerate(self._queues) if queue and _is_roll_back(rank, queue[0].record)}

    def _take_roll_back(self) -> bool:
        """Take a rollback from all live ranks, if it is next in each of them; return whether it was taken."""
        there = self._at_roll_back
        if 0 in there:
            gone = {lane.rank for lane in self._lanes if not self._queues[lane.rank] and (self._ended or lane.ended)}
            if len(there | gone) < len(self._lanes):
                return False
            self.batch.rolled_back = True
            self.batch.last_steps = {}
        elif not (there and self._ended and not self._queues[0]):
            # If rank 0 died before it recorded the rollback, the rollback has no effect.
            return False
        for rank in sorted(there):
            self._take_word(rank, self._take(rank))
        return True

    @property
    def _is_full(self) -> bool:
        if self._bytes >= LARGEST_READ_BYTES:
            return True
        return self._most is not None and len(self.batch.records) >= self._most

    def _take(self, rank: int) -> Record:
        held = self._queues[rank].popleft()
        self._bytes += held.length
        self.batch.taken[rank] = self.batch.taken.get(rank, 0) + 1
        self.batch.positions[rank] = held.behind
        self.batch.unreadable += held.unreadable
        return held.record

    def _take_word(self, rank: int, record: Record) -> None:
        """Pass on records that are not points: all of rank 0, and those of other ranks about themselves, with their
        rank.
        """
        if rank == 0:
            self.batch.records.append(record)
        elif record.from_every_rank:
            self.batch.records.append(replace(record, rank=rank))

    def _take_point(self, fronts: Mapping[int, PointRecord]) -> bool:
        """Take the point of the lowest step from all ranks in which it is next; return whether it was complete."""
        first = min(fronts, key=lambda rank: (fronts[rank].step, rank))
        step, names = fronts[first].step, tuple(fronts[first].values)
        joined = [
            rank
            for rank, point in fronts.items()
            if point.step == step and point.values.keys() == fronts[first].values.keys()
        ]
        done = self._at_roll_back
        missing = [lane for lane in self._lanes if lane.rank not in fronts and not lane.ended and lane.rank not in done]
        if not self._ended and any(self._logs(lane, names) for lane in missing):
            if not self._is_late(first):
                return False
            for lane in missing:
                # Wait for a rank once, and again only after it has logged these names again.
                lane.silent = not lane.names
                lane.names.discard(names)
        for rank in joined:
            self._take(rank)
        if 0 in joined or any(self._last_step(name) < step for name in names):
            values = {name: reduce_values(name, [fronts[rank].values[name] for rank in joined]) for name in names}
            self.batch.records.append(replace(fronts[joined[0]], values=values))
            self.batch.last_steps |= dict.fromkeys(names, step)
            if len(joined) > 1:
                self.batch.by_rank.append({rank: fronts[rank] for rank in joined})
        return True

    def _is_late(self, rank: int) -> bool:
        return self._now - self._queues[rank][0].read_at > LATE_AFTER_S or len(self._queues[rank]) >= MOST_HELD

    def _logs(self, lane: _RankLane, names: tuple[str, ...]) -> bool:
        """Return whether a rank is expected to log these names; for a while, this includes a rank that has logged no
        point.
        """
        return names in lane.names if lane.names else not lane.silent

    def _last_step(self, name: str) -> int:
        before = -1 if self.batch.rolled_back else self._last_steps.get(name, -1)
        return self.batch.last_steps.get(name, before)


def _is_roll_back(rank: int, record: Record) -> bool:
    """Return whether a record reports a rollback of all ranks: the outcome from rank 0, the mark from others."""
    if rank > 0:
        return isinstance(record, RankRolledBackRecord)
    return isinstance(record, OutcomeRecord) and record.to_step is not None and (record.ranks or 1) > 1
