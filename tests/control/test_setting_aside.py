"""A record that cannot be stored is lost alone, whichever layer refuses it; an unavailable database loses no record."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from runs.models import Attempt, EpochMetric, JournalOffset, Project, Run, StoredEvent
from runs.protocol.events import LogWritten, TextLogged
from runs.recording.database_errors import is_refusal
from runs.recording.lifecycle import Holder, Lease, open_attempt
from runs.recording.record_side.store import RecordSide
from steersman.agent.journals.merged import Journals, JournalsRead
from steersman.agent.journals.supervisor_deaths import MOST_DEATHS, deaths_at, record_death
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.quarantine import QUARANTINE_FILE, put_into_quarantine, texts_aside
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.files import journal
from steersman.files.journal import JournalReader, JournalWriter
from steersman.messages.reports import Position
from steersman.records.kinds import (
    EndRecord,
    EpochRecord,
    KnobsRecord,
    NoteRecord,
    OutcomeRecord,
    PointRecord,
    SetAsideRecord,
    TextRecord,
)
from steersman.records.record import Record
from steersman.spec import ValueSpec

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lease() -> Lease:
    project = Project.objects.create(name="Lab", slug="lab")
    run = Run.objects.create(project=project, name="run")
    return open_attempt(run.pk, Holder("host", "boot", 1), 0, command_line=[])


@pytest.fixture
def ingest(lease: Lease, tmp_path: Path) -> Reporter:
    return Reporter(
        RecordSide(lease), tmp_path, Redactor(tmp_path / "data", tmp_path / "application", {}), StoredProgress()
    )


def epoch(number: int, **fields: Any) -> EpochRecord:
    given = {"epoch": number, "values": {"loss": 0.5}} | fields
    return EpochRecord(number=number, time=1.7e9 + number, step=number, **given)


def refused(number: int, how: str) -> Record:
    """Return a record that some layer between the journal and the row refuses."""
    return {
        "epoch beyond a column": epoch(number, epoch=2**70),
        "text where a number belongs": epoch(number, duration_s="0:00:01"),
        "not an outcome": OutcomeRecord(
            number=number, time=1.7e9, step=number, id="none", command="stop", state="applied"
        ),
    }[how]


HOW = ["epoch beyond a column", "text where a number belongs", "not an outcome"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("bad", [(1,), (8,), (4,), (2, 7), (1, 2, 3, 4, 5, 6, 7, 8)], ids=str)
def test_neighbours_of_a_record_that_cannot_be_stored_are_stored(ingest, lease, tmp_path, bad, how):
    records = [refused(number, how) if number in bad else epoch(number) for number in range(1, 9)]
    points = [PointRecord(number=8 + n, time=1.7e9, step=n, values={"loss": 0.5}) for n in range(1, 5)]
    position = Position(0, 4000, 12)
    ingest.store(Tick(read=JournalsRead([*records[:4], *points, *records[4:]], {0: position})))
    stored = EpochMetric.objects.filter(run_id=lease.run_id).values_list("epoch", flat=True)
    assert sorted(stored) == [number for number in range(1, 9) if number not in bad]
    assert JournalOffset.objects.get(attempt_id=lease.attempt_id).offset == 4000
    assert Run.objects.get(pk=lease.run_id).step == 4
    assert Attempt.objects.get(pk=lease.attempt_id).set_aside_records == len(bad)
    kept = (tmp_path / QUARANTINE_FILE).read_bytes()
    assert kept.count(journal.SYNC) == 2 * len(bad)
    assert all(journal.encode(records[number - 1]) in kept for number in bad)
    frames = StoredEvent.objects.filter(run_id=lease.run_id, kind=LogWritten.kind).values_list("frame", flat=True)
    lines = [line["text"] for frame in frames for line in json.loads(frame)["lines"]]
    assert sum("1 record could not be stored" in line for line in lines) == len(bad)


def test_what_the_quarantine_takes_in_part_is_taken_back_and_told(tmp_path, monkeypatch):
    put_into_quarantine(tmp_path, epoch(1), "why")
    before = (tmp_path / QUARANTINE_FILE).read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:-9]))
    with pytest.raises(OSError, match="No space left"):
        put_into_quarantine(tmp_path, epoch(2), "why")
    assert (tmp_path / QUARANTINE_FILE).read_bytes() == before


def test_what_is_no_record_is_kept_once_however_often_it_is_set_aside(tmp_path):
    for text in ("one", "one", "two", "one"):
        put_into_quarantine(tmp_path, texts_aside([text]), "why")
    kept = JournalReader(tmp_path / QUARANTINE_FILE).read(4 << 20, ended=True)
    assert [each.lines for each in kept if isinstance(each, SetAsideRecord)] == [["one"], ["two"]]


def test_what_is_no_knob_is_set_aside(lease, ingest):
    good = ValueSpec("rate", "float").to_wire()
    for number, spec in enumerate((good, good | {"name": "r" * 200})):
        record = KnobsRecord(number=number, time=1.7e9, step=number, knobs=[spec | {"value": 0.5}])
        ingest.store(Tick(read=JournalsRead([record])))
    assert Attempt.objects.get(pk=lease.attempt_id).set_aside_records == 1
    assert list(Run.objects.get(pk=lease.run_id).knob_specs) == ["rate"]


def test_what_waits_in_a_database_that_is_away_is_not_set_aside(ingest, lease, tmp_path, monkeypatch):
    def away(*_: object, **__: object) -> None:
        raise OperationalError("the server closed the connection unexpectedly")

    monkeypatch.setattr(EpochMetric.objects, "create", away)
    with pytest.raises(OperationalError):
        ingest.store(Tick(read=JournalsRead([epoch(1)], {0: Position(0, 100, 1)})))
    assert not (tmp_path / QUARANTINE_FILE).exists()
    assert not JournalOffset.objects.filter(attempt_id=lease.attempt_id).exists()


class Told(Exception):
    """An exception with an SQLSTATE, as a driver raises."""

    def __init__(self, sqlstate: str | None) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "sqlstate", "refusal"),
    [
        (DataError, "22003", True),
        (DataError, None, True),
        (IntegrityError, "23514", True),
        (IntegrityError, None, True),
        (OperationalError, "54000", True),
        (OperationalError, None, False),
        (OperationalError, "08006", False),
        (OperationalError, "40P01", False),
        (OperationalError, "53300", False),
        (OperationalError, "57P01", False),
        (OperationalError, "55P03", False),
        (InterfaceError, None, False),
        # SQLite: "file is not a database", "database disk image is malformed".
        (DatabaseError, None, False),
        (ProgrammingError, "42P01", False),
        (ProgrammingError, None, True),
        (KeyError, None, True),
        (OverflowError, None, True),
        (UnicodeEncodeError, None, True),
        (OSError, None, False),
        (MemoryError, None, False),
        (Run.DoesNotExist, None, False),
    ],
)
def test_a_refusal_is_told_from_a_database_that_is_away(error, sqlstate, refusal):
    told = error("utf-8", "", 0, 1, "half") if error is UnicodeEncodeError else error("why")
    told.__cause__ = Told(sqlstate)
    assert is_refusal(told) == refusal


def test_deaths_are_counted_at_one_place_alone(tmp_path):
    here, there = {0: Position(0, 100, 3)}, {0: Position(0, 101, 4)}
    assert deaths_at(tmp_path, here) is None
    for number in range(1, MOST_DEATHS + 1):
        record_death(tmp_path, here, 7, "KeyError: 'x'")
        found = deaths_at(tmp_path, here)
        assert found is not None and found.count == number and found.are_too_many == (number == MOST_DEATHS)
    assert deaths_at(tmp_path, there) is None
    record_death(tmp_path, there, 7, "KeyError: 'x'")
    found = deaths_at(tmp_path, there)
    assert found is not None and found.count == 1 and deaths_at(tmp_path, here) is None


def test_a_record_that_supervisors_die_of_is_passed_and_kept(ingest, lease, tmp_path):
    writer = JournalWriter(tmp_path)
    for number in range(3):
        writer.append(TextRecord(step=number, name=f"text {number}", text="", epoch=None))
    reader = Journals(tmp_path, {0: Position()}, {})
    (deadly,) = [reader.read(most=1)]
    ingest.set_aside(deadly, "KeyError: 'x'")
    reader.advance(deadly)
    ingest.store(Tick(read=reader.read()))
    texts = StoredEvent.objects.filter(run_id=lease.run_id, kind=TextLogged.kind).values_list("frame", flat=True)
    assert [json.loads(frame)["name"] for frame in texts] == ["text 1", "text 2"]
    kept = JournalReader(tmp_path / QUARANTINE_FILE).read(4 << 20, ended=True)
    assert [getattr(each, "name", None) for each in kept] == [None, "text 0"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_journal_is_read_record_by_record_without_a_loss(tmp_path, ranks):
    for rank in range(ranks):
        writer = JournalWriter(tmp_path, rank)
        encoder = writer.encoder(("loss",))
        for step in range(5):
            encoder(step, [float(step)])
            writer.append(NoteRecord(step=step, text=f"{step}", level="info"))
        writer.append(EndRecord(step=5, outcome="finished"))
    whole = Journals(tmp_path, {rank: Position() for rank in range(ranks)}, {}).read(ended=True)
    reader = Journals(tmp_path, {rank: Position() for rank in range(ranks)}, {})
    found = []
    while (batch := reader.read(ended=True, most=1)) is not None:
        assert len(batch.records) <= 1
        found += batch.records
        reader.advance(batch)
    assert whole is not None and found == whole.records


@pytest.mark.parametrize("payload", [b"[1]", b"5", b"{", b"9" * 5000, b"[" * 50_000, b"\xff"])
def test_a_whole_record_that_is_not_ours_is_damage(tmp_path, payload):
    import struct
    from zlib import crc32

    writer = JournalWriter(tmp_path)
    writer.append(NoteRecord(step=1, text="before"))
    length = journal.SMALLEST_RECORD_BYTES + len(payload)
    body = (
        struct.pack("<4sIBHH", journal.SYNC, length, NoteRecord.kind, 0, 0) + struct.pack("<Qdq", 1, 1.0, 1) + payload
    )
    with journal.segment_path(tmp_path, 0, 0).open("ab") as file:
        file.write(body + struct.pack("<I", crc32(body)))
    next(writer._numbers)
    writer.append(NoteRecord(step=1, text="behind"))
    reader = JournalReader(journal.segment_path(tmp_path, 0, 0))
    assert [record.text for record in reader.read(4 << 20, ended=True)] == ["before", "behind"]
    assert reader.unreadable == 1


def test_a_machine_sample_has_the_step_of_the_newest_point_whatever_else_is_told(ingest, lease):
    points = [PointRecord(number=n, time=1.7e9, step=n, values={"loss": 0.5}) for n in (1, 2, 3)]
    told = TextRecord(number=4, time=1.7e9, step=1, name="a sample of an old step", text="", epoch=None)
    ingest.store(Tick(read=JournalsRead([*points, told], {0: Position(0, 400, 4)}), system={"host/cpu": 0.5}))
    frame = StoredEvent.objects.get(run_id=lease.run_id, kind="system").frame
    assert json.loads(frame)["step"] == 3
