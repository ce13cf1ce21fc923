"""A journal full of records with hostile fields: valid ones are stored, invalid ones are lost alone, nothing raises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from runs.api.history import history
from runs.live.snapshot import latest_values, run_snapshot
from runs.models import Attempt, EpochMetric, Project, Role, Run
from runs.recording.lifecycle import Holder, open_attempt
from runs.recording.record_side.store import RecordSide
from steersman.agent.journals.merged import Journals
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.files import journal
from steersman.messages.reports import Position
from steersman.records.kinds import EpochRecord, PointRecord
from steersman.records.record import Record
from steersman.records.typed_json import encode
from steersman.spec import ValueSpec
from tests.steersman.test_records import GOOD, HOSTILE, own_fields, written

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("record", [each for each in GOOD if not isinstance(each, PointRecord)])
def test_records_with_hostile_fields_cost_themselves_alone(tmp_path: Path, record: Record) -> None:
    run = Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="run")
    lease = open_attempt(run.pk, Holder("host", "boot", 1), 0, command_line=[])
    written_between: set[int] = set()
    data = b""
    for name in own_fields(record):
        for value in HOSTILE:
            epoch = 1000 + len(written_between)
            written_between.add(epoch)
            data += journal.encode(replace(EpochRecord(epoch=epoch), time=1.7e9))
            data += written(encode(own_fields(record) | {name: value}), record.kind)
    journal.segment_path(tmp_path, 0, 0).write_bytes(data)
    progress = StoredProgress()
    ingest = Reporter(RecordSide(lease), tmp_path, Redactor(tmp_path / "data", tmp_path / "application", {}), progress)
    reader = Journals(tmp_path, {0: Position()}, {})
    while (read := reader.read(ended=True)) is not None:
        ingest.store(Tick(read=read))
        reader.advance(read)
    assert written_between <= set(EpochMetric.objects.values_list("epoch", flat=True))
    assert Attempt.objects.get(pk=lease.attempt_id).unreadable_records > 0
    run.refresh_from_db()
    for knob in run.knobs:
        ValueSpec.from_wire(knob)
    for shown in (history(run, Role.OWNER), run_snapshot(run), latest_values(run)):
        msgspec.json.encode(shown)
