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

from steersman.files import journal, journal_bound, point_code
from steersman.files.journal import JournalReader, JournalWriter, segment_path
from steersman.files.journal_bound import Thinning, every_kept, journal_bound_bytes
from steersman.records.kinds import DroppedRecord, EndRecord, EpochRecord, NoteRecord, PointRecord
from steersman.records.record import Record
from steersman.run import Run

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


@pytest.mark.parametrize(
    ("times", "every"), [(1.0, 1), (1.1, 2), (1.4, 2), (1.5, 4), (2.1, 8), (2.6, 16), (3.6, 64), (4.1, 64), (900.0, 64)]
)
def test_the_further_above_the_bound_the_fewer_steps_are_kept(times: float, every: int) -> None:
    assert every_kept(int(times * 1000), 1000) == every


def test_a_step_is_kept_with_all_its_records_also_where_some_come_late() -> None:
    thinning = Thinning(4)
    steps = range(30, 1000, 10)
    kept = []
    for step in steps:
        # The names of a wide record, and those of the step before, which were still on the GPU.
        answers = {thinning.keeps(step) for _ in range(3)}
        late = {thinning.keeps(step - 10) for _ in range(2)} if step > 30 else set()
        assert len(answers) == 1 and late <= {step - 10 in kept}
        kept += [step] if answers == {True} else []
    assert {later - earlier for earlier, later in zip(kept[1:], kept[2:], strict=False)} == {40}
    assert thinning.left_out == 3 * (len(steps) - len(kept)) + 2 * (len(steps) - 1 - len(kept) + (kept[-1] == 990))
    # Ranks that begin at different steps keep the same ones.
    first, second = Thinning(4), Thinning(4)
    of_first = [step for step in range(7, 400) if first.keeps(step)]
    of_second = [step for step in range(18, 400) if second.keeps(step)]
    assert [step for step in of_first if step > 20] == [step for step in of_second if step > 20]


def test_a_training_that_is_rolled_back_keeps_as_many_steps() -> None:
    thinning = Thinning(2)
    assert sum(thinning.keeps(step) for step in range(2000)) == pytest.approx(1000, abs=1)
    assert sum(thinning.keeps(step) for step in range(500, 1500)) == pytest.approx(500, abs=1)


def spool(folder: Path) -> list[Path]:
    return sorted(folder.glob("journal-*.bin"))


def test_above_its_bound_a_journal_leaves_out_steps_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a day without a database: omitted steps are counted, and written records never change."""
    monkeypatch.setattr(journal, "LARGEST_SEGMENT_BYTES", 4096)
    monkeypatch.setattr(journal_bound, "LOOK_AGAIN_S", 0.0)
    bound = 20 * 4096
    run = Run(tmp_path)
    run._journal = writer = JournalWriter(tmp_path, bound_bytes=bound)
    kept_log, written, step = None, {}, 0
    while len(spool(tmp_path)) < 34:
        step += 1
        # Also by a bound method that the script keeps from before.
        (kept_log or run.log)(step, loss=0.5, accuracy=0.25)
        kept_log = kept_log or (run.log if step == 2 else None)
        assert run.step == step
        if step % 100 == 0:
            run.log(step, {"wide/loss": 1.0})
            run.log_epoch(step // 100, loss=0.5)
        for path in spool(tmp_path)[:-1]:
            assert written.setdefault(path, path.read_bytes()) == path.read_bytes()
    above = step
    stored = spool(tmp_path)[:-1]
    records = [record for path in spool(tmp_path) for record in read_all(path)[0]]
    for path in stored:
        path.unlink()
    writer.look_at_bound_again()
    for step in range(above + 1, above + 201):
        run.log(step, loss=0.5, accuracy=0.25)
    run.finish()
    before = records[-1].number
    records += [record for path in spool(tmp_path) for record in read_all(path)[0] if record.number > before]

    points = [record.step for record in records if isinstance(record, PointRecord) and "loss" in record.values]
    assert [record.epoch for record in records if isinstance(record, EpochRecord)] == list(range(1, above // 100 + 1))
    assert isinstance(records[-1], EndRecord)
    # All, then every 2nd, every 4th, and all again.
    paces = [later - earlier for earlier, later in zip(points, points[1:], strict=False)]
    assert [pace for pace in dict.fromkeys(paces) if paces.count(pace) > 2] == [1, 2, 4]
    assert points[-200:] == list(range(above + 1, above + 201))
    notes = [record.text for record in records if isinstance(record, NoteRecord)]
    told = ("every 2nd step is kept", "every 4th step is kept", "every step is kept")
    assert len(notes) == 3 and all(expected in note for expected, note in zip(told, notes, strict=True))
    left_out = [record for record in records if isinstance(record, DroppedRecord)]
    wide = sum("wide/loss" in record.values for record in records if isinstance(record, PointRecord))
    assert all(record.above_bound for record in left_out) and len(left_out) == 2
    assert sum(record.records for record in left_out) == step - len(points) + above // 100 - wide
    numbers = [record.number for record in records]
    assert numbers == list(range(len(numbers))) and writer.dropped == 0


def test_what_is_left_out_at_the_end_is_told_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This includes a process that starts again in a folder that is above the bound."""
    segment_path(tmp_path, 0, 0).write_bytes(bytes(1100))
    writer = JournalWriter(tmp_path, bound_bytes=1000)
    append = writer.encoder(("loss",))
    assert all(append(step, (0.5,)) for step in range(10))
    writer.append(EndRecord(step=9, outcome="finished", error="", traceback=""))
    records, _ = read_all(segment_path(tmp_path, 0, 1))
    assert isinstance(records[0], NoteRecord) and records[0].level == "warning"
    assert [record.step for record in records if isinstance(record, PointRecord)] == [0, 2, 4, 6, 8]
    assert isinstance(records[-2], DroppedRecord) and records[-2].records == 5


def test_what_was_left_out_hides_no_damage(tmp_path: Path) -> None:
    moment = time.time() - 60.0
    points = [PointRecord(step=number, number=number, time=moment, values={"loss": 0.5}) for number in (0, 3)]
    told = DroppedRecord(records=100, number=4, time=moment, above_bound=True)
    path = segment_path(tmp_path, 0, 0)
    path.write_bytes(b"".join(map(journal.encode, [*points, told])))
    assert read_all(path)[1].unreadable == 2


@pytest.mark.parametrize(
    ("text", "mib"), [("", 8192), ("256", 256), (" 1024 ", 1024), ("255", 8192), ("many", 8192), ("9" * 5000, 8192)]
)
def test_a_wrong_bound_is_told_and_ends_no_training(text: str, mib: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert journal_bound_bytes({"STEERSMAN_JOURNAL_MIB": text}) == mib << 20
    told = capsys.readouterr().err
    assert ("STEERSMAN_JOURNAL_MIB takes" in told and "at least 256" in told) == (text in ("255", "many", "9" * 5000))
