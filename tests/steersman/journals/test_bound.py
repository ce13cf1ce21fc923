"""A journal above its bound, or on a disk with little space, leaves out steps and nothing else."""

from __future__ import annotations

import time
from itertools import groupby, pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from steersman.files import journal, journal_bound
from steersman.files.journal import JournalWriter, segment_path
from steersman.files.journal_bound import Thinning, every_kept, journal_bound_bytes
from steersman.records.kinds import DroppedRecord, EndRecord, EpochRecord, NoteRecord, PointRecord
from steersman.run import Run
from tests.steersman.journals.test_journal import read_all


class Disk:
    """A disk of 100 GiB with a reserve of 2 GiB; `free` is what the process finds, None an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free: int | None = 80 << 30
        self.asked = 0
        monkeypatch.setattr(journal_bound.shutil, "disk_usage", self._usage)

    def _usage(self, folder: Path) -> SimpleNamespace:
        self.asked += 1
        if self.free is None:
            raise OSError("no such disk")
        return SimpleNamespace(total=100 << 30, free=self.free)


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
    Disk(monkeypatch)
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


def log_to(run: Run, folder: Path, segments: int) -> None:
    """Log steps until the journal has begun that many segments."""
    while len(spool(folder)) < segments:
        run.log(run.step + 1, loss=0.5)


def paces_of(folder: Path) -> list[int]:
    """Return the distances of logged steps, each as often as it is not the one before."""
    records = [record for path in spool(folder) for record in read_all(path)[0]]
    steps = [record.step for record in records if isinstance(record, PointRecord)]
    paces = [later - earlier for earlier, later in pairwise(steps)]
    return [pace for pace, _ in groupby(paces) if paces.count(pace) > 2]


def notes_of(folder: Path) -> list[NoteRecord]:
    records = [record for path in spool(folder) for record in read_all(path)[0]]
    return [record for record in records if isinstance(record, NoteRecord)]


def test_a_journal_leaves_a_reserve_of_its_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an outage whose spool fills the disk long before it reaches its bound."""
    monkeypatch.setattr(journal, "LARGEST_SEGMENT_BYTES", 4096)
    monkeypatch.setattr(journal_bound, "LOOK_AGAIN_S", 0.0)
    disk = Disk(monkeypatch)
    run = Run(tmp_path)
    run._journal = JournalWriter(tmp_path)
    log_to(run, tmp_path, 4)
    # The space ends within a segment, and without a step boundary.
    for free_mib, segments in ((2000, 6), (1000, 8), (500, 10), (700, 12), (0, 14), (3100, 16)):
        disk.free = free_mib << 20
        log_to(run, tmp_path, segments)
        run.log_epoch(segments, loss=0.5)
    run.finish()
    # 700 MiB are not much more than a quarter of the reserve: files that come and go change nothing.
    assert paces_of(tmp_path) == [1, 2, 4, 8, 64, 1]
    records = [record for path in spool(tmp_path) for record in read_all(path)[0]]
    assert [record.epoch for record in records if isinstance(record, EpochRecord)] == [6, 8, 10, 12, 14, 16]
    told = [note.text for note in notes_of(tmp_path)]
    assert told[0].startswith("Only 2000 MiB are free on the disk of the journal") and "every 2nd step" in told[0]
    assert "There is room for the journal again" in told[-1]
    points = sum(isinstance(record, PointRecord) for record in records)
    left_out = sum(record.records for record in records if isinstance(record, DroppedRecord))
    assert left_out == run.step - points


def test_a_journal_that_is_stored_keeps_every_step_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To leave out steps would make no room then."""
    monkeypatch.setattr(journal, "LARGEST_SEGMENT_BYTES", 4096)
    monkeypatch.setattr(journal_bound, "LOOK_AGAIN_S", 0.0)
    disk = Disk(monkeypatch)
    disk.free = 0
    run = Run(tmp_path)
    run._journal = JournalWriter(tmp_path)
    for number in range(2, 9):
        while not segment_path(tmp_path, 0, number - 1).exists():
            run.log(run.step + 1, loss=0.5)
        assert run._journal.thinning is None
        segment_path(tmp_path, 0, number - 2).unlink()
    assert notes_of(tmp_path) == []


def test_the_free_space_is_read_rarely_and_an_error_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LARGEST_SEGMENT_BYTES", 1 << 20)
    monkeypatch.setattr(journal_bound, "LOOK_AGAIN_S", 3600.0)
    disk = Disk(monkeypatch)
    run = Run(tmp_path)
    run._journal = JournalWriter(tmp_path)
    log_to(run, tmp_path, 4)
    # Once at the start, and at each new segment of some ten thousand records.
    assert disk.asked == 4
    disk.free = None
    log_to(run, tmp_path, 5)
    assert disk.asked == 5 and paces_of(tmp_path) == [1]


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
