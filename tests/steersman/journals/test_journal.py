"""The journal from both ends: every value is kept, and damage at any byte only affects the record there."""

from __future__ import annotations

import errno
import math
import os
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steersman.files import journal, point_code
from steersman.files.journal import JournalReader, JournalWriter, segment_path
from steersman.records.kinds import DroppedRecord, NoteRecord, PointRecord
from steersman.records.record import Record

LIMIT = 4 << 20
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
FIXTURE_IS_SAFE = settings(max_examples=150, suppress_health_check=list(HealthCheck))


def read_all(path: Path, ended: bool = True) -> tuple[list[Record], JournalReader]:
    reader = JournalReader(path)
    records: list[Record] = []
    while found := reader.read(LIMIT, ended=ended):
        records += found
    reader.close()
    return records, reader


def write_points(folder: Path, count: int) -> Path:
    writer = JournalWriter(folder)
    append = writer.encoder(("loss", "accuracy"))
    for step in range(count):
        append(step, (step / 2, step / 3))
    writer.close()
    return segment_path(folder, 0, 0)


@FIXTURE_IS_SAFE
@given(
    step=st.integers(-(1 << 63), (1 << 63) - 1),
    values=st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
        NUMBERS,
        min_size=1,
        max_size=9,
    ),
)
def test_it_keeps_names_and_values_bit_for_bit(tmp_path_factory, step, values):
    folder = tmp_path_factory.mktemp("journal")
    writer = JournalWriter(folder)
    writer.encoder(tuple(values))(step, tuple(values.values()))
    writer.close()
    (record,), reader = read_all(segment_path(folder, 0, 0))
    assert record.step == step
    assert list(record.values) == list(values)
    for name, value in values.items():
        assert struct.pack("<d", record.values[name]) == struct.pack("<d", value)
    assert reader.unreadable == 0


@FIXTURE_IS_SAFE
@given(data=st.data(), action=st.sampled_from(["cut", "zero to the end", "zero a stretch", "flip a byte"]))
def test_it_takes_what_is_whole_and_tells_the_rest(tmp_path_factory, data, action):
    """Whatever is cut, zeroed or flipped at any byte: complete records are read once, in order, and others counted."""
    path = write_points(tmp_path_factory.mktemp("journal"), 40)
    original, _ = read_all(path)
    content = bytearray(path.read_bytes())
    length = len(content) // 40
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start + 1, len(content)))
    if action == "cut":
        del content[start:]
        hit = range(start // length, 40)
    elif action == "zero to the end":
        content[start:] = bytes(len(content) - start)
        hit = range(start // length, 40)
    elif action == "zero a stretch":
        content[start:end] = bytes(end - start)
        hit = range(start // length, (end - 1) // length + 1)
    else:
        content[start] ^= 0x55
        hit = range(start // length, start // length + 1)
    path.write_bytes(content)

    found, reader = read_all(path)
    steps = [record.step for record in found]
    untouched = [record.step for record in original if record.number not in hit]
    assert [step for step in steps if step in untouched] == untouched
    assert len(steps) == len(set(steps))
    if action != "cut":
        # A zero written over a zero changes nothing, so a hit record may still be complete.
        missing = 40 - len(steps)
        assert reader.unreadable >= (1 if missing else 0)
        assert reader.unreadable <= missing
    elif start % length:
        assert reader.unreadable == 1


def test_it_waits_for_a_record_that_is_still_being_written(tmp_path):
    path = write_points(tmp_path, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    reader = JournalReader(path)
    assert [record.step for record in reader.read(LIMIT)] == [0, 1]
    assert reader.read(LIMIT) == []
    path.write_bytes(whole)
    assert [record.step for record in reader.read(LIMIT)] == [2]
    assert reader.unreadable == 0


def test_it_finds_what_was_appended_after_a_cut(tmp_path):
    """A file is cut below the consumed part and written on: the reader misses nothing new and repeats nothing old."""
    writer = JournalWriter(tmp_path)
    append = writer.encoder(("loss",))
    for step in range(10):
        append(step, (0.5,))
    path = segment_path(tmp_path, 0, 0)
    reader = JournalReader(path)
    assert len(reader.read(LIMIT)) == 10
    os.truncate(path, path.stat().st_size // 2 + 7)
    for step in range(10, 40):
        append(step, (0.5,))
    assert [record.step for record in reader.read(LIMIT)] == list(range(10, 40))


def test_it_counts_and_tells_what_a_full_disk_did_not_take(tmp_path, monkeypatch):
    writer = JournalWriter(tmp_path)
    append_before = writer.encoder(("loss",))
    append_before(0, (0.5,))
    full = True
    real_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        if full and descriptor == writer.fd:
            # A disk that fills up accepts a part of a record first.
            return real_write(descriptor, data[:9]) if len(data) % 2 else _no_space()
        return real_write(descriptor, data)

    def _no_space() -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal.os, "write", write)
    # The append function keeps a reference to os.write; the one of this test must not outlive it.
    monkeypatch.setattr(journal, "append_maker", point_code.append_maker.__wrapped__)
    append = writer.encoder(("loss", "odd"))
    for step in range(1, 6):
        append(step, (0.5, 0.5))
        writer.append(NoteRecord(step=step, text="x" * step))
    assert writer.dropped == 10
    full = False
    for step in range(6, 6 + point_code.LOOK_EVERY_MASK + 1):
        append(step, (0.5, 0.5))
    records, reader = read_all(segment_path(tmp_path, 0, 0))
    assert [record.step for record in records if isinstance(record, PointRecord)] == [0, *range(6, step + 1)]
    assert [record.records for record in records if isinstance(record, DroppedRecord)] == [10]
    assert reader.unreadable == 0


def test_a_record_whose_gap_cannot_be_reported_is_dropped_too(tmp_path, monkeypatch):
    """A disk may take a small record, but not the report of the dropped ones behind it."""
    writer = JournalWriter(tmp_path)
    writer.append(NoteRecord(step=0, text="before"))
    largest, real_write = 0, os.write

    def write(descriptor: int, data: bytes) -> int:
        if descriptor == writer.fd and len(data) > largest:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, data)

    monkeypatch.setattr(journal.os, "write", write)
    for step in range(1, 4):
        writer.append(NoteRecord(step=step, text="lost"))
    small = NoteRecord(step=4, text="")
    largest = len(journal.encode(small))
    assert largest < len(journal.encode(DroppedRecord(records=3)))
    writer.append(small)
    largest = 1 << 20
    writer.append(NoteRecord(step=5, text="after"))
    records, reader = read_all(segment_path(tmp_path, 0, 0))
    assert [record.step for record in records if isinstance(record, NoteRecord)] == [0, 5]
    # The fifth is the report that the disk did not take.
    assert [record.records for record in records if isinstance(record, DroppedRecord)] == [5]
    assert reader.unreadable == 0 and writer.dropped == 5


def test_it_goes_on_in_a_new_segment(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "LARGEST_SEGMENT_BYTES", 500)
    writer = JournalWriter(tmp_path)
    append = writer.encoder(("loss",))
    for step in range(200):
        append(step, (math.nan,))
    segments = sorted(tmp_path.glob("journal-*.bin"))
    assert len(segments) > 2
    steps = [record.step for path in segments for record in read_all(path)[0]]
    assert steps == list(range(200))


def test_it_refuses_a_record_larger_than_a_reader_takes(tmp_path):
    writer = JournalWriter(tmp_path)
    with pytest.raises(ValueError, match="a record has at most"):
        writer.append(NoteRecord(step=0, text="x" * (2 << 20)))


def test_a_number_that_a_thread_has_taken_and_not_written_yet_is_no_loss(tmp_path: Path) -> None:
    path = segment_path(tmp_path, 0, 0)

    def point(number: int, age_s: float) -> bytes:
        return journal.encode(PointRecord(step=number, number=number, time=time.time() - age_s, values={"loss": 0.5}))

    path.write_bytes(point(0, 0.0) + point(1, 0.0) + point(3, 0.0) + point(4, 0.0))
    reader = JournalReader(path)
    assert [record.number for record in reader.read(LIMIT)] == [0, 1]
    with path.open("ab") as file:
        file.write(point(2, 0.0))
    assert [record.number for record in reader.read(LIMIT)] == [3, 4, 2]
    assert reader.unreadable == 0 and reader.next_number == 5


@pytest.mark.parametrize(("age_s", "ended"), [(60.0, False), (0.0, True)], ids=["long ago", "its writer has ended"])
def test_a_number_that_never_comes_is_lost(tmp_path: Path, age_s: float, ended: bool) -> None:
    path = segment_path(tmp_path, 0, 0)
    moment = time.time() - age_s
    records = [PointRecord(step=number, number=number, time=moment, values={"loss": 0.5}) for number in (0, 2)]
    path.write_bytes(b"".join(map(journal.encode, records)))
    reader = JournalReader(path)
    assert [record.number for record in reader.read(LIMIT, ended=ended)] == [0, 2]
    assert reader.unreadable == 1


def test_records_that_the_disk_did_not_take_are_never_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for a reader between the first record after the gap and the record that reports the gap."""
    dropped = 3_000
    writer = JournalWriter(tmp_path)
    writer.append(NoteRecord(step=0, text="before"))
    taken, full = writer.fd, os.open("/dev/full", os.O_WRONLY)
    writer.fd = full
    for step in range(1, dropped + 1):
        writer.append(NoteRecord(step=step, text="lost"))
    writer.fd = taken
    path, seen, damaged = segment_path(tmp_path, 0, 0), [], []
    real_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        written = real_write(descriptor, data)
        seen.append(reader.read(2 << 20))
        damaged.append(reader.unreadable)
        return written

    reader = JournalReader(path)
    monkeypatch.setattr(journal.os, "write", write)
    writer.append(NoteRecord(step=dropped + 1, text="after"))
    os.close(full)
    records = [record for each in seen for record in each]
    assert [type(record) for record in records] == [NoteRecord, NoteRecord, DroppedRecord]
    assert damaged == [0, 0] and records[-1].records == dropped
