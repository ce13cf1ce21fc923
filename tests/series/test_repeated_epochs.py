"""A script that counts its epochs from 1 in each of several folds: all are kept, the newest counts, with a message."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec
import pytest

from runs.api.history import history
from runs.models import EpochMetric, Project, Run, StoredEvent
from runs.portal.compare.metrics import measured
from runs.protocol.events import EpochDone, LogWritten
from runs.recording.lifecycle import Holder, Lease, open_attempt
from runs.recording.record_side.store import RecordSide
from runs.series.exports import epochs_csv
from steersman.agent.journals.merged import Journals
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.files.locks import try_lock
from steersman.messages.reports import Position
from steersman.run import Run as Training
from steersman.run import worker_lock_path

pytestmark = pytest.mark.django_db(transaction=True)
FOLDS, EPOCHS = 5, 3


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of a script that has logged three epochs in each of five folds."""
    row = Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="folds")
    lease = open_attempt(row.pk, Holder("host", "boot", 1), 0, command_line=[])
    log_folds(tmp_path)
    store(lease, tmp_path)
    row.refresh_from_db()
    return row


def log_folds(folder: Path) -> None:
    lock = try_lock(worker_lock_path(folder, 0))
    assert lock is not None
    training = Training(folder, 0, lock)
    for fold in range(FOLDS):
        for epoch in range(1, EPOCHS + 1):
            loss = 10 * fold + epoch
            training.log_epoch(epoch, step=epoch, validation_loss=loss, fold=fold, best=(fold, epoch) == (1, 2))


def store(lease: Lease, folder: Path) -> None:
    ingest = Reporter(
        RecordSide(lease), folder, Redactor(folder / "data", folder / "application", {}), StoredProgress()
    )
    ingest.store(Tick(read=Journals(folder, {0: Position()}, {}).read(ended=True)))


def test_every_row_is_kept_and_the_newest_counts(run: Run) -> None:
    kept = run.epochs.order_by("order", "epoch").values_list("order", "epoch", "validation_loss")
    assert list(kept) == [(fold, epoch, 10 * fold + epoch) for fold in range(FOLDS) for epoch in (1, 2, 3)]
    counted = run.epochs.counted().order_by("epoch")
    assert [(row.epoch, row.order, row.validation_loss) for row in counted] == [(1, 4, 41), (2, 4, 42), (3, 4, 43)]
    assert [(row.epoch, row.order) for row in run.epochs.newest(6)] == [(2, 4), *[(3, fold) for fold in range(FOLDS)]]
    best = EpochMetric.objects.get(run=run, best=True)
    assert (best.epoch, best.order, run.best_epoch, run.best_metric) == (2, 1, 2, 12)


def test_every_reader_tells_them_in_order(run: Run) -> None:
    places = [(epoch, order) for epoch in (1, 2, 3) for order in range(FOLDS)]
    assert [(row["epoch"], row["order"]) for row in history(run, "viewer")["epochs"]] == places
    rows = csv.DictReader(io.StringIO("".join(epochs_csv([run])), newline=""))
    assert [(int(row["epoch"]), int(row["order"])) for row in rows] == places
    found = measured([run])[run.pk]
    assert (found.last_epoch["validation_loss"], found.best_epoch["validation_loss"]) == (43, 41)


def test_viewers_are_told_of_each_and_once_that_they_repeat(run: Run) -> None:
    stored = StoredEvent.objects.filter(run=run).order_by("seq")
    frames = stored.filter(kind=EpochDone.kind).values_list("frame", flat=True)
    told = [msgspec.json.decode(frame, type=EpochDone) for frame in frames]
    assert [(each.order, each.epoch) for each in told] == [
        (fold, epoch) for fold in range(FOLDS) for epoch in (1, 2, 3)
    ]
    written = stored.filter(kind=LogWritten.kind).values_list("frame", flat=True)
    logs = [msgspec.json.decode(frame, type=LogWritten) for frame in written]
    [line] = [line for log in logs for line in log.lines if "logged again" in line.text]
    assert line.text.startswith("Epoch 1 was logged again.") and line.level == "warning"


def test_a_long_run_of_repeats_is_exported_whole(run: Run) -> None:
    EpochMetric.objects.bulk_create(
        EpochMetric(run=run, attempt=1, epoch=1, order=order, step=1, at=run.created_at) for order in range(5, 1400)
    )
    rows = csv.DictReader(io.StringIO("".join(epochs_csv([run])), newline=""))
    assert len(list(rows)) == FOLDS * EPOCHS + 1395
