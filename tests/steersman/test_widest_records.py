"""The widest record of every kind that the client writes fits into every column, and can be shown."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from django.utils import timezone

from runs.api.history import history
from runs.live.snapshot import latest_values, run_snapshot
from runs.models import Attempt, Checkpoint, Command, CommandState, EpochMetric, Project, Role, Run, RunState, Series
from runs.recording.lifecycle import AttemptEnd, Holder, end_attempt, open_attempt
from runs.recording.record_side.store import RecordSide
from runs.series import storage
from runs.series.charts import Extent, charts
from steersman import values
from steersman.agent.journals.merged import Journals
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.commands import Done
from steersman.files.locks import try_lock
from steersman.messages.reports import Position
from steersman.records.posted import PostedCommand
from steersman.run import Run as Client
from steersman.run import worker_lock_path
from steersman.values.places import LONGEST_PATH
from tests.support.stored_points import read_points

pytestmark = pytest.mark.django_db(transaction=True)
SMALLEST, LARGEST = values.SMALLEST_INT, values.LARGEST_STORED_INT
# Four bytes each in UTF-8.
NAME = "\U0001f6a3" * values.LONGEST_NAME
PATH = "\U0001f6a3" * 60 + "/" + "x" * (LONGEST_PATH - 61)


def test_the_widest_records_are_stored_and_shown(tmp_path: Path) -> None:
    project = Project.objects.create(name="Lab", slug="lab")
    run = Run.objects.create(project=project, name="run")
    lease = open_attempt(run.pk, Holder("host", "boot", 1), 0, command_line=[])
    command = Command.objects.create(run=run, kind="evaluate", sent_at=timezone.now(), id=uuid4())
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    client = Client(tmp_path, 0, lock)

    client.plan(total_epochs=LARGEST, total_steps=LARGEST, steps_per_epoch=LARGEST)
    for step in (SMALLEST, 0, LARGEST):
        client.log(step, **{NAME: 1.7e308, "loss": -1.7e308, "": 5e-324})
    wide = {f"{index} {NAME}"[: values.LONGEST_NAME]: float(index) for index in range(500)}
    client.log(LARGEST, **wide)
    for epoch in (SMALLEST, -1, LARGEST):
        client.log_epoch(epoch, step=SMALLEST, duration_s=1e300, best=True, **{NAME: 1.0, "train_loss": 1.7e308})
    client.log_epoch(7, **wide)
    client.log_text(NAME, "\U0001f6a3" * values.LONGEST_TEXT, step=SMALLEST, epoch=LARGEST)
    client.note("\U0001f6a3" * values.LONGEST_NOTE, level="error")
    client.record_environment({str(index): "\U0001f6a3" * 50 for index in range(values.MOST_PARTS)})
    client.record_checkpoint(
        tmp_path / PATH, step=SMALLEST, epoch=LARGEST, name=NAME, size_bytes=LARGEST, sha256="f" * 64, reason="hourly",
        metrics={NAME: 1.0},
    )  # fmt: skip
    client.knob("k" * 60, 0.5, unit="u" * 99, help="\U0001f6a3" * 999, series=NAME)
    done = Done(old="\U0001f6a3" * 10**6, new=[[0] * 10**4], effective={NAME: 1}, remark="\U0001f6a3" * 10**4)
    client._control._record(PostedCommand(id=str(command.pk), command="evaluate"), "applied", done)
    client.expect_quiet(1e300)
    try:
        raise RuntimeError("\U0001f6a3" * 10**6)
    except RuntimeError as error:
        client._record_exception(RuntimeError, error, error.__traceback__)

    progress = StoredProgress()
    ingest = Reporter(RecordSide(lease), tmp_path, Redactor(tmp_path / "data", tmp_path / "application", {}), progress)
    reader = Journals(tmp_path, {0: Position()}, {})
    while (read := reader.read(ended=True)) is not None:
        ingest.store(Tick(read=read))
        reader.advance(read)
    assert progress.end is not None
    error, trace = progress.end.error, progress.end.traceback
    end_attempt(lease, AttemptEnd(RunState.FAILED, 1, "SIGKILL", error, trace))

    attempt = Attempt.objects.get(pk=lease.attempt_id)
    assert attempt.set_aside_records == attempt.unreadable_records == attempt.dropped_records == 0
    run.refresh_from_db()
    assert (run.total_steps, run.total_epochs, run.steps_per_epoch) == (LARGEST,) * 3
    assert (run.best_metric_name, run.best_epoch, run.step) == (NAME, LARGEST, LARGEST)
    assert set(EpochMetric.objects.values_list("epoch", flat=True)) == {SMALLEST, -1, LARGEST, 7}
    assert EpochMetric.objects.get(epoch=7).extra == wide
    assert Series.objects.get(name=NAME).last_value == 1.7e308
    checkpoint = Checkpoint.objects.get()
    assert (checkpoint.name, checkpoint.step, checkpoint.epoch) == (NAME, SMALLEST, LARGEST)
    assert checkpoint.path == f"attempts/1/{PATH}" and checkpoint.size_bytes == LARGEST
    command.refresh_from_db()
    assert command.state == CommandState.APPLIED and command.step == LARGEST

    for folded in (False, True):
        if folded:
            storage.fold(run.pk)
        points = read_points(run.pk, "loss")[1]
        assert [int(step) for step in points.steps] == [SMALLEST, 0, LARGEST]
        _, drawn = charts(run.pk, ["loss", NAME])
        assert set(drawn) == {"loss", NAME}
        for by in ("step", "time"):
            assert charts(run.pk, ["loss"], extent=Extent(by))[1]
        for shown in (history(run, Role.OWNER), run_snapshot(run), latest_values(run)):
            msgspec.json.encode(shown)
