"""The journal: an append-only file of checksummed records that one training process writes and its supervisor reads.

Each record contains its names, so that damage to one record affects only that record.

    size  field
    4     SYNC, with which a reader finds the next record after damage
    4     length of the whole record in bytes
    1     kind
    2     number of values: 0 unless it is a POINT
    2     length n of the names in bytes: 0 unless it is a POINT
    n     names of the values, joined by NUL, UTF-8
    8     number: 0, 1, 2 … of this writer, so that gaps are visible
    8     time, seconds since the epoch (UTC)
    8     step
    …     POINT: 8 bytes per value (IEEE 754 binary64); other kinds: JSON
    4     CRC-32 (ISO 3309) of everything before it

All numbers are little-endian. `steersman.records.kinds` has the fields of each kind. Independent of runs, supervisors
and torch.
"""

from __future__ import annotations

import os
import struct
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from time import monotonic, time
from typing import Any
from zlib import crc32

from steersman.files.journal_bound import DEFAULT_MIB, JournalBound
from steersman.files.null_journal import Encoder, WithCare
from steersman.files.point_code import append_maker, log_maker
from steersman.files.point_shape import PointShape
from steersman.records.kinds import DroppedRecord, EndRecord, PointRecord
from steersman.records.record import KINDS, LARGEST_PAYLOAD_BYTES, Record

SYNC = b"\xc5STM"
_HEAD = struct.Struct("<4sIBHH")
_PLACE = struct.Struct("<Qdq")
_CHECKSUM = struct.Struct("<I")
SMALLEST_RECORD_BYTES = _HEAD.size + _PLACE.size + _CHECKSUM.size
# A length beyond this is damage, not a record.
LARGEST_RECORD_BYTES = 1 << 20
LARGEST_NAMES_BYTES = (1 << 16) - 1
# Far fewer than fit into the 16 bits of their number; eight bytes each.
MOST_VALUES = 10_000
LARGEST_SEGMENT_BYTES = 64 << 20
# After this time, a numbered record is written or lost, and a writer has reported the records that the disk refused.
WRITTEN_WITHIN_S = 1.0
# The end of the year 9999, the limit of calendars.
LATEST_TIME = 253_402_300_799.0


def segment_path(folder: Path, rank: int, segment: int) -> Path:
    """Return the file of a rank's journal segment in an attempt's folder."""
    return folder / f"journal-{rank:04d}-{segment:06d}.bin"


def is_begun(folder: Path, rank: int) -> bool:
    """Return whether a process of this rank has written before."""
    return segment_path(folder, rank, 0).exists()


class JournalWriter:
    """Appends records to segments in `folder`, each with one write.

    A full disk raises no exception: the record is dropped, counted in `dropped`, and reported when a write succeeds.
    Above `bound_bytes`, and if the disk has little space, points are left out; see `steersman.files.journal_bound`.
    """

    keeps = True

    def __init__(self, folder: Path, rank: int = 0, bound_bytes: int = DEFAULT_MIB << 20) -> None:
        self._folder = folder
        self._rank = rank
        self.dropped = 0
        self._untold = 0
        segments = sorted(folder.glob(f"journal-{rank:04d}-*.bin"))
        self._segment = int(segments[-1].stem.rsplit("-", 1)[1]) + 1 if segments else 0
        # One counter for all segments, because encoders keep a reference to it.
        self._numbers = count()
        self.fd = self._open()
        self._largest = LARGEST_SEGMENT_BYTES
        self._bound = JournalBound(folder, rank, bound_bytes)
        # Decides which points are written; None if all are. The functions that append points read it.
        self.thinning = self._bound.thinning
        self._take_thinning(self._bound.look())

    def _open(self) -> int:
        path = segment_path(self._folder, self._rank, self._segment)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def encoder(self, names: tuple[str, ...]) -> Encoder:
        """Return a function (step, values) that appends one POINT with these names.

        `values` are in the order of `names`. If one is not a plain float, or the step is not a plain int, it writes
        nothing and returns False. Raises `ValueError` if the names do not fit into a record.
        """
        encoder: Encoder = append_maker(len(names))(*self._parts(names))
        return encoder

    def logger(self, names: tuple[str, ...], run: Any, with_care: WithCare) -> Callable[..., None]:
        """Return a `log(step, **values)` for exactly these names, the fastest way; see `steersman.files.point_code`.

        It sets `run.step`, and calls `with_care` unless there is one plain float for each name.
        """
        log: Callable[..., None] = log_maker(names)(*self._parts(names), run, with_care)
        return log

    def _parts(self, names: tuple[str, ...]) -> tuple[Any, ...]:
        joined = "\0".join(names).encode()
        packed = struct.Struct(f"<{_HEAD.size + len(joined)}sQdq{len(names)}d")
        length = packed.size + _CHECKSUM.size
        if length > LARGEST_RECORD_BYTES or len(joined) > LARGEST_NAMES_BYTES:
            raise ValueError("the names are too many or too long for one call: log the values in several calls")
        head = _HEAD.pack(SYNC, length, PointRecord.kind, len(names), len(joined)) + joined
        return self, self._settle, head, length, packed.pack, self._numbers.__next__

    def append(self, record: Record) -> None:
        """Append one record of JSON fields, with its own number and time.

        Raises `ValueError` if it is larger than a record may be.
        """
        payload = record.payload()
        if len(payload) > LARGEST_PAYLOAD_BYTES:
            raise ValueError(f"a record has at most {LARGEST_PAYLOAD_BYTES} bytes, but this one has {len(payload)}")
        if self.thinning is not None and isinstance(record, EndRecord):
            self._take_thinning(self._bound.note_left_out())
        length = SMALLEST_RECORD_BYTES + len(payload)
        head = _HEAD.pack(SYNC, length, record.kind, 0, 0)
        body = head + _PLACE.pack(next(self._numbers), time(), record.step) + payload
        try:
            written = os.write(self.fd, body + _CHECKSUM.pack(crc32(body)))
        except OSError:
            written = 0
        self._settle(written, length)

    def _settle(self, written: int, length: int) -> None:
        """Count a record that could not be written; report the count once a write succeeds; replace a full segment."""
        if written != length:
            self.dropped += 1
            self._untold += 1
            if written:
                # A partial record would be read as damage.
                os.ftruncate(self.fd, os.fstat(self.fd).st_size - written)
            return
        if self._untold:
            told, self._untold = self._untold, 0
            size, dropped_before = os.fstat(self.fd).st_size, self.dropped
            self.append(DroppedRecord(records=told))
            if self.dropped > dropped_before:
                self._untold += told
                if os.fstat(self.fd).st_size == size:
                    # Behind a gap that is not reported, this record would make the gap damage.
                    os.ftruncate(self.fd, size - length)
                    self.dropped += 1
                    self._untold += 1
                return
        if os.fstat(self.fd).st_size > self._largest:
            self._next_segment()
        elif monotonic() >= self._bound.look_again_at:
            self.look_at_bound_again()

    def _next_segment(self) -> None:
        self._segment += 1
        try:
            following = self._open()
        except OSError:
            # No file can be created now: continue in this segment, and try again after another MiB.
            self._segment -= 1
            self._largest += 1 << 20
            return
        # Keep the same descriptor: a thread that is about to write must not find it closed, or reused for another file.
        os.dup2(following, self.fd, inheritable=False)
        os.close(following)
        self._largest = LARGEST_SEGMENT_BYTES
        self._take_thinning(self._bound.look())

    def look_at_bound_again(self) -> None:
        """Leave out points soon after its disk has little space, and write all again soon after there is room."""
        self._take_thinning(self._bound.look_again())

    def _take_thinning(self, told: Sequence[Record]) -> None:
        self.thinning = self._bound.thinning
        for record in told:
            self.append(record)

    def end(self) -> None:
        """Write nothing from now on, and close the file with the last reference to this.

        A thread that still logs finds the same descriptor, which leads nowhere.
        """
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, self.fd, inheritable=False)
        os.close(nowhere)
        weakref.finalize(self, os.close, self.fd)

    def close(self) -> None:
        os.close(self.fd)


def records_of(names: tuple[str, ...]) -> Iterator[slice]:
    """Yield the slices of `names` that fit into one record each."""
    first = used = 0
    for index, name in enumerate(names):
        added = len(name.encode()) + 1
        if index > first and (used + added > LARGEST_NAMES_BYTES or index - first >= MOST_VALUES):
            yield slice(first, index)
            first, used = index, 0
        used += added
    yield slice(first, len(names))


def encode(record: Record) -> bytes:
    """Return the bytes of a record in a journal."""
    if isinstance(record, PointRecord):
        names, width = "\0".join(record.values).encode(), len(record.values)
        payload = struct.pack(f"<{width}d", *record.values.values())
    else:
        names, width, payload = b"", 0, record.payload()
    length = SMALLEST_RECORD_BYTES + len(names) + len(payload)
    head = _HEAD.pack(SYNC, length, record.kind, width, len(names)) + names
    body = head + _PLACE.pack(record.number, record.time, record.step) + payload
    return body + _CHECKSUM.pack(crc32(body))


# The position of a reader after a record: offset, next number, and the number of lost records so far. A plain tuple for
# speed, because there is one for each of a hundred thousand points per second.
Behind = tuple[int, int, int]


class JournalReader:
    """Reads complete records from `offset` of one segment, and continues after damage.

    `next_number` is the number expected next. After `read`, `offset` is the start of the next read; `unreadable` counts
    records that were lost to damage since the reader was created, as far as their numbers show, and at least one for
    each damaged range.
    """

    def __init__(self, path: Path, offset: int = 0, next_number: int = 0) -> None:
        self.path = path
        self.offset = offset
        self.next_number = next_number
        self.unreadable = 0
        # One position for each record of the last `read`.
        self.behind: list[Behind] = []
        self._shape: PointShape | None = None
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._file)

    @property
    def is_exhausted(self) -> bool:
        """Return whether nothing follows `offset`."""
        return os.fstat(self._file).st_size <= self.offset

    def read(self, limit: int, ended: bool = False) -> list[Record]:
        """Return the complete records among the next `limit` bytes; `limit` must exceed LARGEST_RECORD_BYTES.

        An incomplete record stays for the next read, unless complete ones follow it or the writer has `ended`: then it
        is damage, and counted.
        """
        self.behind = []
        size = os.fstat(self._file).st_size
        if size < self.offset:
            # The file was truncated below the read position: new records are appended at the new end.
            self.offset = size
        if size == self.offset:
            return []
        data = os.pread(self._file, limit, self.offset)
        at_end = self.offset + len(data) >= size
        begin: Behind = (self.offset, self.next_number, self.unreadable)
        records: list[Record] = []
        # The indices of records before which numbers are missing without damaged bytes, and the first missing number.
        gaps: list[tuple[int, int]] = []
        position = 0
        is_damaged = False
        while position < len(data):
            if not is_damaged and self._shape is not None:
                position = self._take_alike(self._shape, data, position, records)
            record, length = decode(data, position)
            if record is None:
                if position == len(data):
                    break
                following = _next_whole(data, position + 1)
                if following is None:
                    break
                if position == 0 and self.offset:
                    records += self._appended_before_offset()
                self._count_damage(data, following)
                position = following
                is_damaged = True
                continue
            if record.number > self.next_number and not is_damaged:
                gaps.append((len(records), self.next_number))
            is_damaged = False
            self._count_gap(record)
            records.append(record)
            if isinstance(record, PointRecord) and (self._shape is None or self._shape.names != tuple(record.values)):
                self._shape = PointShape.of(record, data[position : position + length])
            position += length
            self._note_behind(self.offset + position)
        if position < len(data):
            if ended and at_end:
                self.unreadable += 1
                position = len(data)
            elif position == 0 and len(data) == limit:
                # Longer than any record, and without a complete one: all except the end is damage.
                self.unreadable += 1
                position = limit - LARGEST_RECORD_BYTES
        self.offset += position
        if gaps and not ended and (most := _settled(records, gaps)) < len(records):
            # The rest is read again later, when the missing numbers may have arrived.
            del records[most:], self.behind[most:]
            last = self.behind[-1] if self.behind else begin
            self.offset, self.next_number, self.unreadable = last
        return records

    def _take_alike(self, shape: PointShape, data: bytes, position: int, records: list[Record]) -> int:
        """Add the complete records from `position` on that are in sequence and have the same names as the one before.

        Returns the offset after them. A training logs the same names at each step, and this avoids most of `decode`.
        """
        head, length, names, unpack = shape
        number, unreadable, begin = self.next_number, self.unreadable, self.offset
        size, skipped, checked = len(data), len(head), length - _CHECKSUM.size
        # Looked up once, because this loop runs for each point of a burst.
        is_next, read, add, add_behind = data.startswith, PointRecord.read, records.append, self.behind.append
        while is_next(head, position) and position + length <= size:
            found, moment, step, *values, checksum = unpack(data, position + skipped)
            if found != number or crc32(data[position : position + checked]) != checksum:
                break
            if not 0.0 <= moment <= LATEST_TIME:
                break
            add(read(step, number, moment, dict(zip(names, values, strict=True))))
            number += 1
            position += length
            add_behind((begin + position, number, unreadable))
        self.next_number = number
        return position

    def _appended_before_offset(self) -> list[Record]:
        """Return new records before `offset`, which exist if the file was truncated and then extended."""
        data = os.pread(self._file, self.offset + LARGEST_RECORD_BYTES, 0)
        records: list[Record] = []
        position: int | None = 0
        while position is not None and position < self.offset:
            record, length = decode(data, position)
            if record is not None and record.number >= self.next_number:
                self._count_gap(record)
                records.append(record)
                self._note_behind(self.offset)
            position = position + length if length else _next_whole(data, position + 1)
        return records

    def _note_behind(self, offset: int) -> None:
        self.behind.append((offset, self.next_number, self.unreadable))

    def _count_damage(self, data: bytes, following: int) -> None:
        record, _ = decode(data, following)
        # If a gap in the numbers shows how many records were lost, the gap counts instead.
        if record is None or record.number <= self.next_number:
            self.unreadable += 1

    def _count_gap(self, record: Record) -> None:
        if record.number > self.next_number:
            self.unreadable += record.number - self.next_number
        elif record.number < self.next_number and self.unreadable:
            # Concurrent threads take their numbers in one order and write in another, so it was not lost.
            self.unreadable -= 1
        self.next_number = max(self.next_number, record.number + 1)
        if isinstance(record, DroppedRecord) and not record.above_bound:
            # The writer dropped the missing records and reports them in this record, so they are not unreadable.
            self.unreadable = max(0, self.unreadable - record.records)


def _settled(records: Sequence[Record], gaps: Sequence[tuple[int, int]]) -> int:
    """Return how many of the records precede a number that another thread may be about to write.

    Concurrent threads take their numbers in one order and write in another. The report of dropped records follows the
    first record that could be written again. `gaps` are indices of records, each with the first number that is missing
    before it.
    """
    behind = records[gaps[0][0] :]
    came = sorted(record.number for record in behind)
    now = time()
    for place, missing in gaps:
        record = records[place]
        is_recent = abs(now - record.time) < WRITTEN_WITHIN_S
        late = record.number - missing - (bisect_left(came, record.number) - bisect_left(came, missing))
        told = sum(each.records for each in records[place:] if isinstance(each, DroppedRecord) and not each.above_bound)
        if is_recent and late > told:
            return place
    return len(records)


def decode(data: bytes, position: int) -> tuple[Record | None, int]:
    """Return the complete record at `position` and its length, (None, 0) if there is none."""
    if len(data) - position < SMALLEST_RECORD_BYTES or data[position : position + 4] != SYNC:
        return None, 0
    _, length, kind, width, names_bytes = _HEAD.unpack_from(data, position)
    end = position + length
    fits = SMALLEST_RECORD_BYTES + names_bytes + 8 * width <= length <= LARGEST_RECORD_BYTES
    record_kind = KINDS.get(kind)
    if not fits or end > len(data) or record_kind is None:
        return None, 0
    checked = data[position : end - _CHECKSUM.size]
    if _CHECKSUM.unpack_from(data, end - _CHECKSUM.size)[0] != crc32(checked):
        return None, 0
    place = _HEAD.size + names_bytes
    number, moment, step = _PLACE.unpack_from(checked, place)
    payload = checked[place + _PLACE.size :]
    try:
        if not 0.0 <= moment <= LATEST_TIME:
            raise ValueError("this is not a time")
        if record_kind is PointRecord:
            names = checked[_HEAD.size : place].decode().split("\0")
            values = dict(zip(names, struct.unpack(f"<{width}d", payload), strict=True))
            return PointRecord(step=step, number=number, time=moment, values=values), length
        return record_kind.from_payload(payload, number=number, time=moment, step=step), length
    except (ValueError, struct.error):
        # Complete, but not from our writer: this counts as damage too.
        return None, 0


def _next_whole(data: bytes, position: int) -> int | None:
    """Return where the next complete record at or after `position` starts, None if there is none."""
    found = data.find(SYNC, position)
    while found != -1:
        if decode(data, found)[0] is not None:
            return found
        found = data.find(SYNC, found + 1)
    return None
