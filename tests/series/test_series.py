"""Points move from events to chunks: nothing is lost, nothing doubled."""

from __future__ import annotations

import math

import numpy as np
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs.api.history import unfinished_lines
from runs.models import Axis, Chunk, ChunkPlaces, Project, Run, Series, StoredEvent
from runs.protocol.events import Block, LineUnfinished, LogLine, LogWritten, SystemSampled
from runs.recording import feed
from runs.series import storage
from runs.series.charts import charts
from runs.series.float32 import with_few_digits
from tests.support.stored_points import LOSS, START, bits, floats, metrics, metrics_event, read_points, store

# A frame contains NaN by name, so NaNs need the default payload.
numbers = floats.map(lambda value: math.nan if math.isnan(value) else value)


@pytest.fixture
def run(db: None) -> Run:
    project = Project.objects.create(name="Digits", slug="digits")
    return Run.objects.create(project=project, name="first", attempt=1)


def test_it_folds_points_and_removes_their_events(run: Run) -> None:
    store(run, [float(value) for value in range(1200)])
    feed.append(run.pk, LogWritten(attempt=1, lines=[LogLine(text="hello")]))
    assert storage.fold(run.pk) == 1200
    assert storage.fold(run.pk) == 0
    run.refresh_from_db()
    assert run.replay_from == 3
    assert list(StoredEvent.objects.values_list("kind", flat=True)) == ["log"]
    chunk = Chunk.objects.get()
    assert (chunk.count, chunk.first_step, chunk.last_step) == (1200, 0, 1199)


def test_it_keeps_the_newest_events(run: Run) -> None:
    store(run, [0.0] * 10, tick=1)
    assert storage.fold(run.pk, keep_latest=4) == 6
    assert storage.fold(run.pk, before_seq=8) == 1
    assert list(StoredEvent.objects.values_list("seq", flat=True)) == [8, 9, 10]
    run.refresh_from_db()
    assert run.replay_from == 7


def test_it_forgets_how_a_progress_bar_moved_but_for_the_last(run: Run) -> None:
    for percent in range(4):
        feed.append(run.pk, LineUnfinished(attempt=1, lines=[f"{percent} %"]))
        store(run, [0.0], first=percent)
    assert storage.fold(run.pk, keep_latest=2) == 3
    assert list(StoredEvent.objects.order_by("seq").values_list("seq", "kind")) == [
        (5, "unfinished"), (7, "unfinished"), (8, "metrics")
    ]  # fmt: skip
    storage.fold(run.pk)
    assert unfinished_lines(run, run.last_seq + 8) == ["3 %"]
    assert list(StoredEvent.objects.values_list("kind", flat=True)) == ["unfinished"]


def test_it_folds_a_backlog_longer_than_one_transaction(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "FOLDED_AT_ONCE", 3)
    store(run, [float(value) for value in range(10)], tick=1)
    assert storage.fold(run.pk) == 10
    assert read_points(run.pk, LOSS)[1].values.tolist() == list(range(10))
    assert Chunk.objects.count() == 1


def test_it_extends_the_last_chunk_and_cuts_at_4096(run: Run) -> None:
    values = np.random.default_rng(3).normal(size=9000).tolist()
    for start in range(0, 9000, 1500):
        store(run, values[start : start + 1500], first=start)
        storage.fold(run.pk)
    assert list(Chunk.objects.order_by("index").values_list("count", flat=True)) == [4096, 4096, 808]
    assert bits(read_points(run.pk, LOSS)[1].values) == bits(values)


def test_series_that_are_logged_together_share_their_steps_and_times(run: Run) -> None:
    names = ("train/loss", "optimizer/rate", "norm")
    values = {name: np.random.default_rng(len(name)).normal(size=9000).tolist() for name in names}
    # One more series has a point only for every second step.
    rare = values["norm"][::2]
    for start in range(0, 9000, 1500):
        part = slice(start, start + 1500)
        events = [
            metrics({name: column[part] for name, column in values.items()}, range(start, start + 1500)),
            metrics({"rare": rare[start // 2 : start // 2 + 750]}, range(start, start + 1500, 2)),
        ]
        feed.append(run.pk, *events)
        storage.fold(run.pk)
        assert not ChunkPlaces.objects.filter(chunks=None).exists()
    chunks = Chunk.objects.order_by("places")
    shared = [set(chunks.filter(series__name=name).values_list("places", flat=True)) for name in (*names, "rare")]
    assert shared[0] == shared[1] == shared[2]
    assert [len(places) for places in shared] == [3, 3, 3, 2]
    assert not shared[0] & shared[3]
    for name, expected in (*values.items(), ("rare", rare)):
        points = read_points(run.pk, name)[1]
        assert bits(points.values) == bits(expected)
        assert points.times_ms.tolist() == [round(1000 * (START + 0.02 * step)) for step in points.steps.tolist()]
    series = Series.objects.get(name="norm")
    with transaction.atomic():
        storage.replace_points(run.pk, series.pk, 1, {0: read_points(run.pk, "norm")[1].part(slice(0, 5000, 7))})
    assert read_points(run.pk, "norm")[1].values.tolist() == values["norm"][:5000:7]
    assert bits(read_points(run.pk, LOSS)[1].values) == bits(values["train/loss"])
    assert not ChunkPlaces.objects.filter(chunks=None).exists()
    run.delete()
    assert not ChunkPlaces.objects.exists()


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    ticks=st.lists(
        st.tuples(st.integers(1, 3), st.booleans(), st.lists(st.tuples(st.integers(0, 50), numbers), max_size=40)),
        max_size=8,
    )
)
def test_it_reads_what_was_logged_folded_or_not(run: Run, ticks: list) -> None:
    with transaction.atomic():
        expected: dict[int, list[tuple[int, float]]] = {}
        for attempt, fold_now, points in ticks:
            feed.append(run.pk, metrics({LOSS: [value for _, value in points]}, [step for step, _ in points], attempt))
            if points:
                expected.setdefault(attempt, []).extend(points)
            if fold_now:
                storage.fold(run.pk)
        read = read_points(run.pk, LOSS)
        assert {attempt: points.steps.tolist() for attempt, points in read.items()} == {
            attempt: [step for step, _ in points] for attempt, points in expected.items()
        }
        for attempt, points in expected.items():
            assert bits(read[attempt].values) == bits(value for _, value in points)
        transaction.set_rollback(True)


def test_it_folds_samples_of_the_machine_over_time(run: Run) -> None:
    events = [
        SystemSampled(attempt=1, step=7, time=START + at, values={"gpu/0/utilisation": at * 1.0, "host/cpu": None})
        for at in range(3)
    ]
    feed.append(run.pk, *events)
    storage.fold(run.pk)
    row = Series.objects.get()
    assert (row.name, row.axis) == ("gpu/0/utilisation", Axis.TIME)
    chart = charts(run.pk)[1][row.name]
    assert chart["times"] == [START, START + 1, START + 2]
    assert chart["steps"] == [7, 7, 7]


def test_it_keeps_the_latest_point_in_one_statement(run: Run) -> None:
    first = [metrics({f"m/{place}": [float(place)] for place in range(20)}, [1])]
    storage.update_latest(run.pk, first)
    more = [metrics({f"m/{place}": [1.0, math.nan] for place in range(20)}, [2, 3]) for _ in range(50)]
    with CaptureQueriesContext(connection) as queries:
        storage.update_latest(
            run.pk, [*more, SystemSampled(attempt=1, step=3, time=START, values={"gpu/0/power": 1.5})]
        )
    assert len(queries) <= 3  # savepoint, one statement, release
    assert Series.objects.filter(name__startswith="m/").count() == 20
    row = Series.objects.get(name="m/4")
    assert (row.last_step, row.last_value, row.last_nonfinite, row.axis) == (3, None, "nan", Axis.STEP)
    assert Series.objects.get(name="gpu/0/power").last_value == 1.5


def extremes_in_database(name: str) -> tuple[float | None, float | None]:
    row = Series.objects.get(name=name)
    return row.least_value, row.greatest_value


def test_it_keeps_the_least_and_the_greatest_finite_value(run: Run) -> None:
    def put(*values: float, only_new: bool = False) -> None:
        event = metrics({"loss": list(values)}, range(1, len(values) + 1))
        storage.update_latest(run.pk, [event], only_new=only_new)

    put(math.nan)
    assert extremes_in_database("loss") == (None, None)
    put(3.0, 0.5, math.inf, 2.0)
    assert extremes_in_database("loss") == (0.5, 3.0)
    put(-math.inf, math.nan)
    put(1.0)
    assert extremes_in_database("loss") == (0.5, 3.0)
    put(4.0, 0.25)
    assert extremes_in_database("loss") == (0.25, 4.0)
    # Late points of an earlier attempt count, but the last value stays.
    put(9.0, -9.0, only_new=True)
    assert extremes_in_database("loss") == (-9.0, 9.0) and Series.objects.get(name="loss").last_value == 0.25
    samples = [SystemSampled(attempt=1, step=3, time=START, values={"gpu/0/power": each}) for each in (9.5, None, 1.5)]
    storage.update_latest(run.pk, samples)
    assert extremes_in_database("gpu/0/power") == (1.5, 9.5)


def test_extremes_are_the_numbers_that_were_logged(run: Run) -> None:
    """A block may hold shortened float32s; extremes are the exact ones, as charts read them."""
    logged = [float(np.float32(each)) for each in (0.1, 0.7, 0.3)]
    block = with_few_digits(Block(steps=[1, 2, 3], times=[1.0, 2.0, 3.0], values={"loss": list(logged)}))
    assert block.float32
    storage.update_latest(run.pk, [metrics_event([block])])
    assert extremes_in_database("loss") == (logged[0], logged[1])


def test_points_of_a_series_without_a_row_give_it_its_extremes(run: Run) -> None:
    for attempt, values in ((1, [1.0, -4.0]), (2, [math.nan, 8.0])):
        feed.append(run.pk, metrics({"loss": values}, [1, 2], attempt))
    storage.fold(run.pk)
    assert extremes_in_database("loss") == (-4.0, 8.0)


def test_it_reads_again_where_a_fold_came_between(run: Run) -> None:
    store(run, [1.0] * 10)
    calls: list[int] = []

    def read(seq: int) -> int:
        if not calls:
            storage.fold(run.pk)
        calls.append(seq)
        return StoredEvent.objects.filter(run=run).count()

    assert storage.read_settled(run.pk, read) == (1, 0)
    assert len(calls) == 2


def test_a_series_logged_with_different_others_stays_in_the_order_of_logging(run: Run) -> None:
    """Each set of names is a separate block, even within one event or for the same step in one millisecond."""
    alone = Block(steps=[1, 2, 4, 4], times=[1.0, 2.0, 4.0, 4.0], values={"loss": [1.0, 2.0, 4.0, 4.5]})
    beside = Block(steps=[3, 5], times=[3.0, 4.0], values={"loss": [3.0, 5.0], "accuracy": [0.5, 0.75]})
    for attempt in (1, 2):
        feed.append(run.pk, metrics_event([beside, alone], attempt))
    for _ in ("as events", "folded"):
        for points in read_points(run.pk, "loss").values():
            assert points.steps.tolist() == [1, 2, 3, 4, 4, 5]
            assert points.values.tolist() == [1.0, 2.0, 3.0, 4.0, 4.5, 5.0]
        storage.fold(run.pk)
