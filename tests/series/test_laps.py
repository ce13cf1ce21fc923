"""A script whose steps start again within an attempt: every point is kept, each pass is a line, a message says so."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.db import DataError

from monitor_site.serving.archive import verifying
from runs.api.history import history
from runs.models import Chunk, Project, Run, Series, StoredEvent
from runs.protocol.events import LogWritten
from runs.recording import feed
from runs.recording.lifecycle import Holder, Lease, open_attempt
from runs.recording.record_side.store import RecordSide
from runs.series import laps, storage
from runs.series.charts import Extent, charts, charts_by_attempt
from runs.series.exports import series_csv
from runs.series.newest import newest_points
from runs.series.raw_points import Place, raw_points
from steersman.agent.journals.merged import Journals
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.files.locks import try_lock
from steersman.messages.reports import Position
from steersman.run import Run as Training
from steersman.run import worker_lock_path

pytestmark = pytest.mark.django_db(transaction=True)
EPOCHS, BATCHES = 3, 100
LOSS = "train/loss"


class Recorded:
    """A training of this process, and the supervisor that stores its records."""

    def __init__(self, folder: Path, lease: Lease) -> None:
        lock = try_lock(worker_lock_path(folder, 0))
        assert lock is not None
        self.training = Training(folder, 0, lock)
        self._folder, self._lease = folder, lease
        self._journals = Journals(folder, {0: Position()}, {})
        self.supervise_anew()

    def supervise_anew(self) -> None:
        redactor = Redactor(self._folder / "data", self._folder / "application", {})
        self._ingest = Reporter(RecordSide(self._lease), self._folder, redactor, StoredProgress())

    def store(self) -> None:
        batch = self._journals.read()
        assert batch is not None
        self._ingest.store(Tick(read=batch))
        self._journals.advance(batch)


@pytest.fixture
def run() -> Run:
    return Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="laps")


@pytest.fixture
def recorded(run: Run, tmp_path: Path) -> Recorded:
    return Recorded(tmp_path, open_attempt(run.pk, Holder("host", "boot", 1), 0, command_line=[]))


def log_epoch(training: Training, epoch: int, evaluated_every: int = 10) -> None:
    """Log an epoch whose batches count from 0; now and then with another series beside the loss."""
    for batch in range(BATCHES):
        value = float(1000 * epoch + batch)
        if batch % evaluated_every == 9:
            training.log(batch, {LOSS: value, "rate": value})
        else:
            training.log(batch, {LOSS: value})


def loss_of(epoch: int) -> list[float]:
    return [float(1000 * epoch + batch) for batch in range(BATCHES)]


def raw(run: Run, limit: int = 10_000) -> dict[int, list[float | None]]:
    """Return the values of the loss by lap, in the order of logging, read page by page."""
    found: dict[int, list[float | None]] = {}
    place: Place | None = Place()
    while place is not None:
        _, page = raw_points(run.pk, [LOSS], Extent(), place, limit)
        for item in page.items:
            found.setdefault(item["lap"], []).extend(item["values"])
        place = page.following
    return found


def told(run: Run) -> list[str]:
    frames = StoredEvent.objects.filter(run=run, kind=LogWritten.kind).order_by("seq").values_list("frame", flat=True)
    return [line.text for frame in frames for line in msgspec.json.decode(frame, type=LogWritten).lines]


def nothing(run: Run, recorded: Recorded) -> None:
    """Leave everything in events, with one supervisor."""


def folding(run: Run, recorded: Recorded) -> None:
    storage.fold(run.pk)


def another_supervisor(run: Run, recorded: Recorded) -> None:
    recorded.supervise_anew()


def both(run: Run, recorded: Recorded) -> None:
    storage.fold(run.pk)
    recorded.supervise_anew()


@pytest.mark.parametrize("meanwhile", [nothing, folding, another_supervisor, both])
def test_each_epoch_is_a_line_of_its_own(
    run: Run, recorded: Recorded, meanwhile: Callable[[Run, Recorded], None]
) -> None:
    for epoch in range(EPOCHS):
        log_epoch(recorded.training, epoch)
        recorded.store()
        meanwhile(run, recorded)
    assert raw(run) == {epoch: loss_of(epoch) for epoch in range(EPOCHS)} == raw(run, limit=7)
    [told_of] = [charts_by_attempt(run.pk, [LOSS])[1][LOSS]]
    assert told_of["attempts"][1]["values"] == loss_of(0)
    assert {lap: chart["values"] for lap, chart in told_of["laps"][1].items()} == {1: loss_of(1), 2: loss_of(2)}
    assert history(run, "viewer")["series"][LOSS] == told_of
    # The line is the newest epoch, not a mean of several.
    line = charts(run.pk, [LOSS])[1][LOSS]
    assert (line["steps"], line["values"]) == (list(range(BATCHES)), loss_of(2))
    assert Series.objects.get(run=run, name=LOSS).last_value == loss_of(2)[-1]
    rows = list(csv.DictReader(io.StringIO("".join(series_csv([run])), newline="")))
    assert [float(row["value"]) for row in rows if row["series"] == LOSS] == [
        value for epoch in range(EPOCHS) for value in loss_of(epoch)
    ]
    assert {int(row["lap"]) for row in rows if row["series"] == "rate"} == {0, 1, 2}
    newest = newest_points(run.pk, [LOSS], 150)
    assert newest.points[1, LOSS].values.tolist() == [*loss_of(1)[50:], *loss_of(2)] and newest.left_out == 150
    [line_told] = [text for text in told(run) if "went back" in text]
    assert line_told.startswith(f"The step of {LOSS} went back from 99 to 0.")


def test_a_step_that_goes_back_to_the_middle_replaces_what_follows(run: Run, recorded: Recorded) -> None:
    for step in (*range(1, 901), *range(500, 1001)):
        recorded.training.log(step, {LOSS: float(step)})
    recorded.store()
    line = charts(run.pk, [LOSS])[1][LOSS]
    assert (line["count"], line["raw"], line["steps"]) == (1000, True, list(range(1, 1001)))
    assert {lap: len(values) for lap, values in raw(run).items()} == {0: 900, 1: 501}


def test_long_laps_are_drawn_from_coarser_levels(run: Run, recorded: Recorded) -> None:
    for lap in range(3):
        for step in range(5000):
            recorded.training.log(step, {LOSS: float(lap)})
        recorded.store()
        storage.fold(run.pk)
    chunks = Chunk.objects.filter(series__run=run).order_by("lap", "index").values_list("lap", "index", "count")
    assert list(chunks) == [(lap, index, count) for lap in range(3) for index, count in ((0, 4096), (1, 904))]
    line = charts(run.pk, [LOSS], buckets=50)[1][LOSS]
    assert (line["count"], set(line["min"]), set(line["max"])) == (5000, {2.0}, {2.0})
    parts = charts_by_attempt(run.pk, [LOSS], buckets=50)[1][LOSS]["laps"][1]
    assert {lap: (set(chart["mean"]), chart["count"]) for lap, chart in parts.items()} == {
        1: ({1.0}, 5000),
        2: ({2.0}, 5000),
    }
    assert not list(verifying._chunks(run.pk))


def test_what_is_logged_twice_at_a_step_is_kept_and_told_once(run: Run, recorded: Recorded) -> None:
    for step in range(1, 6):
        recorded.training.log(step, {LOSS: float(step)})
        recorded.training.log(step, accuracy=0.5)
    recorded.store()
    assert not told(run)
    for _ in range(3):
        recorded.training.log(5, {LOSS: 7.0})
    recorded.store()
    assert raw(run) == {0: [1, 2, 3, 4, 5, 7, 7, 7]}
    [text] = told(run)
    assert text.startswith(f"{LOSS} was logged twice at step 5. Both values are kept")


def test_threads_that_count_together_make_one_line(run: Run, recorded: Recorded) -> None:
    chance = random.Random(1)
    # Each step is logged once, up to three points late.
    steps = [1, *sorted(range(2, 501), key=lambda step: step + chance.uniform(0, 3))]
    assert steps != sorted(steps)
    for step in steps:
        recorded.training.log(step, {LOSS: float(step)})
    recorded.store()
    assert not told(run) and set(raw(run)) == {0}
    line = charts(run.pk, [LOSS])[1][LOSS]
    assert (line["steps"], line["values"]) == (list(range(1, 501)), [float(step) for step in range(1, 501)])


def test_steps_without_any_order_are_no_thousand_lines(run: Run, recorded: Recorded) -> None:
    steps = [1, 0] * (laps.MOST_LAPS + 50)
    for number, step in enumerate(steps):
        recorded.training.log(step, {LOSS: float(number)})
    recorded.store()
    storage.fold(run.pk)
    found = raw(run)
    assert max(found) == laps.LAST_LAP and sum(map(len, found.values())) == len(steps)
    first = len(steps) - len(found[laps.LAST_LAP])
    assert found[laps.LAST_LAP] == [float(number) for number in range(first, len(steps))]
    assert [text for text in told(run) if "250th time" in text]


def test_a_tick_that_is_stored_in_parts_is_the_same(run: Run, recorded: Recorded, monkeypatch: Any) -> None:
    append = feed.append

    def refusing(run_id: int, *events: Any) -> Any:
        steps = [step for event in events for block in getattr(event, "blocks", ()) for step in block.steps]
        if 13 in steps:
            raise DataError("no thirteen")
        return append(run_id, *events)

    for epoch in range(2):
        log_epoch(recorded.training, epoch)
    monkeypatch.setattr(feed, "append", refusing)
    recorded.store()
    thirteen = {epoch: [value for value in loss_of(epoch) if value % 1000 != 13] for epoch in range(2)}
    assert raw(run) == thirteen
