"""The host side alone, without a database: what it sends to a record side, and how it handles the answers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pytest

from steersman.agent.journals.consoles import ConsolesRead
from steersman.agent.journals.merged import JournalsRead
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.quarantine import QUARANTINE_FILE
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.files.journal import JournalReader
from steersman.messages.reports import Attached, Line, Position, Refused, Report, Stored
from steersman.records.alert_kinds import AlertRecord, WatchRecord
from steersman.records.kinds import (
    CheckpointRecord,
    EndRecord,
    EnvironmentRecord,
    EpochRecord,
    NoteRecord,
    OutcomeRecord,
    PointRecord,
    TextRecord,
)
from steersman.records.knob_kinds import KnobsRecord
from steersman.records.own_kinds import ParametersRecord, PatchRecord
from steersman.records.record import Record

SECRET = "hunter2-correct-horse"

SECRETIVE: list[Record] = [
    PointRecord(values={f"loss {SECRET}": 0.5}),
    EpochRecord(epoch=1, values={f"loss {SECRET}": 0.5}),
    EnvironmentRecord(environment={"argv": [SECRET], SECRET: 1}),
    NoteRecord(text=SECRET),
    OutcomeRecord(id=None, command="stop", state="refused", reason=SECRET),
    KnobsRecord(knobs=[{"name": "rate", "help": SECRET}]),
    ParametersRecord(parameters={"key": SECRET}),
    PatchRecord(patch=f"+ {SECRET}"),
    CheckpointRecord(
        path="checkpoints/1", epoch=1, name=SECRET, size_bytes=1, sha256="", metrics={f"loss {SECRET}": 0.5}
    ),
    TextRecord(name=SECRET, text=SECRET),
    AlertRecord(name=SECRET, text=SECRET),
    WatchRecord(name=f"loss {SECRET}", goal="min"),
    EndRecord(outcome="failed", error=SECRET, traceback=SECRET),
]


@dataclass
class Answers:
    """A record side that gives the answers that a test has prepared, and stores every later report."""

    prepared: list[Stored] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    attached: Attached = field(default_factory=lambda: Attached(1, 1, {0: Position()}, {0: 0}))

    def attach(self) -> Attached:
        return self.attached

    def report(self, report: Report) -> Stored:
        self.reports.append(report)
        stored = self.prepared.pop(0) if self.prepared else Stored(report.number, report.end)
        return replace(stored, session=report.session, answers=report.number)


def reporter(answers: Answers, folder: Path) -> Reporter:
    return Reporter(answers, folder, Redactor(folder, folder, {"API_KEY": SECRET}), StoredProgress())


@pytest.mark.parametrize("record", SECRETIVE, ids=lambda each: type(each).__name__)
def test_no_record_carries_a_secret_to_the_record_side(tmp_path: Path, record: Record) -> None:
    answers = Answers()
    reporter(answers, tmp_path).store(Tick(read=JournalsRead([record])))
    (report,) = answers.reports
    assert len(report.records) == 1 and SECRET not in json.dumps(asdict(report))


def test_no_line_carries_a_secret_to_the_record_side(tmp_path: Path) -> None:
    answers = Answers()
    console = ConsolesRead([SECRET], 0, {}, [f"{SECRET} 10%"])
    reporter(answers, tmp_path).store(Tick(console=console, lines=[Line(SECRET)]))
    assert SECRET not in json.dumps(asdict(answers.reports[0]))


def test_what_is_refused_is_on_disk_before_the_rest_is_sent_again(tmp_path: Path) -> None:
    refused = [Refused("records", 1, "why"), Refused("lines", 0, "why"), Refused("system", "host/cpu", "why")]
    answers = Answers([Stored(0, {}, refused)])
    records = [NoteRecord(step=step, text=f"note {step}") for step in (1, 2, 3)]
    tick = Tick(
        read=JournalsRead(records, {0: Position(0, 300, 3)}),
        lines=[Line("bad"), Line("good")],
        system={"host/cpu": 1.0, "host/ram": 2.0},
    )
    host = reporter(answers, tmp_path)
    assert host.store(tick).number == 1 and host.under_way is None
    first, second = answers.reports
    assert first.number == second.number == 1 and second.end == first.end == {0: Position(0, 300, 3)}
    assert [record.step for record in second.records] == [1, 3]
    assert [line.text for line in second.lines] == ["good"] and second.system == {"host/ram": 2.0}
    assert [each.what for each in second.set_aside] == ["a note", "a line of text", "the sample host/cpu"]
    kept = JournalReader(tmp_path / QUARANTINE_FILE).read(4 << 20, ended=True)
    assert [record.step for record in kept if isinstance(record, NoteRecord) and record.text == "note 2"] == [2]


def test_a_full_disk_keeps_a_refused_record_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Stored(0, {}, [Refused("records", 0, "why")])
    answers = Answers([refused, refused])
    tick = Tick(read=JournalsRead([NoteRecord(step=1, text="x")]))
    host = reporter(answers, tmp_path)
    with monkeypatch.context() as full:

        def refuse(*_: object) -> None:
            raise OSError(28, "No space left on device")

        full.setattr("steersman.agent.reporting.report_sequence.put_into_quarantine", refuse)
        with pytest.raises(OSError, match="No space left"):
            host.store(tick)
    assert host.under_way is tick
    host.store(tick)
    assert [len(report.records) for report in answers.reports] == [1, 1, 0] and host.under_way is None


def test_an_answer_that_tells_of_less_leaves_the_report_under_way(tmp_path: Path) -> None:
    answers = Answers([Stored(5, {0: Position(0, 10, 1)})], attached=Attached(1, 9, {0: Position(0, 90, 9)}, {0: 0}))
    host, tick = reporter(answers, tmp_path), Tick(lines=[Line("x")])
    assert host.store(tick).number == 5 and host.under_way is tick
    answers.attached = Attached(2, 6, {0: Position(0, 10, 1)}, {0: 0})
    host.attach()
    assert host.under_way is None and host.store(tick).number == 6
