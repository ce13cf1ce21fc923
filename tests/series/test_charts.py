"""Charts of series: no spike hidden, superseded points left out, work bounded."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runs.models import Chunk, Project, Run
from runs.recording import feed
from runs.series import charts as charts_module
from runs.series import storage
from runs.series.charts import FEWEST_BUCKETS, Extent, charts, charts_by_attempt
from runs.series.packing.chunks import (
    CHUNK_POINTS,
    COARSE_POINTS,
    FINE_POINTS,
    GROUP_CHUNKS,
    Buckets,
    Packed,
    Points,
    unpack_buckets,
    unpack_groups,
)
from tests.support.stored_points import LOSS, START, metrics, read_points, store, store_folded


@pytest.fixture
def run(db: None) -> Run:
    project = Project.objects.create(name="Digits", slug="digits")
    return Run.objects.create(project=project, name="first", attempt=1)


def chart_of(run: Run, buckets: int = 1000, extent: Extent | None = None) -> dict[str, Any]:
    return charts(run.pk, [LOSS], buckets, extent)[1][LOSS]


def test_it_draws_every_point_where_they_fit(run: Run) -> None:
    store(run, [1.0, math.nan, 3.0, math.inf, -math.inf])
    storage.fold(run.pk)
    store(run, [6.0], first=5)
    chart = chart_of(run)
    assert chart == {
        "axis": "step",
        "raw": True,
        "steps": [0, 1, 2, 3, 4, 5],
        "times": [START + step * 0.02 for step in range(6)],
        "values": [1.0, None, 3.0, None, None, 6.0],
        "nonfinite": [[1, "nan"], [3, "inf"], [4, "-inf"]],
        "count": 6,
    }


@pytest.mark.parametrize("number", [2_500, 40_000])
def test_it_hides_no_spike(run: Run, number: int) -> None:
    values = np.random.default_rng(5).normal(size=number)
    for place in range(57, number, number // 9):
        values[place] = 1000.0 + place
    values[number // 2] = math.nan
    store(run, values.tolist(), tick=5000)
    storage.fold(run.pk, keep_latest=1)
    chart = chart_of(run, buckets=200)
    assert not chart["raw"]
    assert chart["buckets"] == len(chart["steps"]) <= 200
    assert chart["count"] == number
    assert chart["steps"] == sorted(set(chart["steps"]))
    assert chart["steps"][-1] == number - 1
    for place in range(57, number, number // 9):
        bucket = next(at for at, last in enumerate(chart["steps"]) if place <= last)
        assert chart["max"][bucket] == 1000.0 + place
        assert chart["first_steps"][bucket] <= place
    [(bucket, kind)] = chart["nonfinite"]
    assert kind == "nan"
    assert chart["first_steps"][bucket] <= number // 2 <= chart["steps"][bucket]
    assert chart["nonfinite_counts"] == [1]
    # Short series are read point by point, longer ones in groups of 64.
    first = number // 2 if number < 32_000 else number // 2 // 64 * 64
    assert chart["nonfinite_steps"] == [first]
    assert min(chart["min"]) == np.nanmin(values)


def test_it_draws_the_same_folded_or_not(run: Run) -> None:
    values = np.random.default_rng(6).normal(size=3000).tolist()
    store(run, values)
    before = chart_of(run)
    storage.fold(run.pk)
    after = chart_of(run)
    assert before["buckets"] == 1000
    assert before == after


def test_it_lets_a_later_attempt_supersede_steps(run: Run) -> None:
    store(run, [1.0] * 100)
    store(run, [2.0] * 30, first=60, attempt=2)
    chart = chart_of(run)
    assert chart["steps"] == list(range(90))
    assert chart["values"] == [1.0] * 60 + [2.0] * 30
    storage.fold(run.pk)
    assert chart_of(run) == chart
    assert len(read_points(run.pk, LOSS)[1]) == 100


def test_it_supersedes_within_a_chunk_at_coarser_levels(run: Run) -> None:
    store(run, [1.0] * 40_000, tick=5000)
    store(run, [2.0] * 20_000, first=30_001, attempt=2, tick=5000)
    storage.fold(run.pk)
    chart = chart_of(run, buckets=300)
    assert chart["count"] == 30_001 + 20_000
    old = [low for low, first in zip(chart["min"], chart["first_steps"], strict=True) if first >= 30_001]
    assert set(old) == {2.0}


def test_it_keeps_a_bucket_where_a_step_was_logged_twice(run: Run) -> None:
    feed.append(run.pk, metrics({LOSS: [1.0, 9.0, 2.0]}, [4, 4, 5]))
    storage.update_latest(run.pk, [metrics({LOSS: [2.0]}, [5])])
    chart = chart_of(run)
    assert (chart["raw"], chart["steps"]) == (False, [4, 5])
    assert (chart["min"], chart["max"], chart["last"]) == ([1.0, 2.0], [9.0, 2.0], [9.0, 2.0])


def test_it_reads_a_range_by_step_and_by_time(run: Run) -> None:
    store(run, [float(value) for value in range(9000)])
    storage.fold(run.pk, keep_latest=2)
    by_step = chart_of(run, extent=Extent("step", 8_100, 8_300))
    assert by_step["values"] == [float(value) for value in range(8_100, 8_301)]
    by_time = chart_of(run, extent=Extent("time", START + 2.0, START + 4.0))
    assert by_time["axis"] == "time"
    assert by_time["values"] == [float(value) for value in range(100, 201)]


def test_it_reads_whole_chunks_of_a_long_series(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    length = CHUNK_POINTS * (GROUP_CHUNKS + 3) + 100
    values = np.random.default_rng(8).normal(size=length).astype(np.float32).astype(np.float64)
    values[123_456] = 77.0
    # Three folds, so that the summary of a group covers stored and new chunks.
    cuts = [0, CHUNK_POINTS * 30 + 5, CHUNK_POINTS * 64 + 5, length]
    for start, end in itertools.pairwise(cuts):
        store(run, values[start:end].tolist(), first=start, tick=50_000)
        storage.fold(run.pk)
    last = Chunk.objects.select_related("places").get(closes_group=True)
    for level, row_points in (("fine", FINE_POINTS), ("coarse", COARSE_POINTS)):
        packed = Packed(bytes(getattr(last.places, level)), bytes(getattr(last, level)))
        assert unpack_groups([packed], row_points).last_steps[-1] == CHUNK_POINTS * GROUP_CHUNKS - 1
    unpacked: list[int] = []

    def unpack(packed: Sequence[Packed], counts: Sequence[int]) -> Buckets:
        unpacked.extend(counts)
        return unpack_buckets(packed, counts)

    monkeypatch.setattr(charts_module, "unpack_buckets", unpack)
    chart = chart_of(run, buckets=100)
    assert len(unpacked) == 4
    assert chart["count"] == length
    assert max(chart["max"]) == 77.0
    assert chart["buckets"] <= 100
    coarse = chart_of(run, buckets=8)
    assert (coarse["count"], max(coarse["max"]), coarse["buckets"]) == (length, 77.0, 8)
    store(run, [5.0] * 10, first=CHUNK_POINTS * 20 + 7, attempt=2)
    for buckets in (100, 8):
        assert chart_of(run, buckets=buckets)["count"] == CHUNK_POINTS * 20 + 7 + 10


def test_it_reads_with_a_constant_number_of_queries(run: Run) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            charts(run.pk)
        return len(captured)

    store(run, [1.0] * 100)
    storage.fold(run.pk)
    few = queries()
    store(run, [1.0] * 30_000, first=100, tick=5000)
    storage.fold(run.pk)
    assert queries() == few


@pytest.mark.parametrize("points", [GROUP_CHUNKS * CHUNK_POINTS - 100, 2 * GROUP_CHUNKS * CHUNK_POINTS - 1])
def test_it_reads_a_group_whose_last_chunk_is_not_full(run: Run, points: int) -> None:
    """Its summary is stored when the group is full; until then the chart reads each of its chunks."""
    steps = np.arange(points)
    store_folded(run, LOSS, Points(steps, steps * 20, steps / 3))
    chart = chart_of(run, buckets=10)
    assert (chart["count"], chart["first_steps"][0], chart["steps"][-1]) == (points, 0, points - 1)
    assert (chart["min"][0], chart["max"][-1]) == (0.0, (points - 1) / 3)


def test_it_asks_as_many_queries_for_many_attempts_and_series_as_for_few(run: Run) -> None:
    steps = np.arange(100)

    def queries(buckets: int) -> tuple[int, list[int]]:
        with CaptureQueriesContext(connection) as captured:
            drawn = charts(run.pk, buckets=buckets)[1]
        return len(captured), [chart["count"] for chart in drawn.values()]

    # Each attempt supersedes half of the one before. With few buckets the chart reads the coarsest level.
    for attempt in range(1, 8):
        store_folded(run, LOSS, Points(steps + 50 * attempt, steps, steps / 3), attempt)
    few = [queries(buckets)[0] for buckets in (5, 30, 1000)]
    for number in range(1, 5):
        for attempt in range(1, 300):
            store_folded(run, f"loss {number}", Points(steps + 50 * attempt, steps, steps / 3), attempt)
    for buckets, asked in zip((5, 30, 1000), few, strict=True):
        found, counts = queries(buckets)
        # One more query for a level that the few buckets did not need.
        assert found <= asked + 4, buckets
        assert sorted(counts) == [7 * 50 + 50, *[299 * 50 + 50] * 4]


def test_it_draws_every_point_of_many_short_attempts(run: Run) -> None:
    """The last chunk of an attempt is rarely full, so the chart must choose its level by points and not by chunks."""
    steps = np.arange(60)
    for attempt in range(1, 11):
        store_folded(run, LOSS, Points(steps + 60 * attempt, (steps + 60 * attempt) * 20, steps / 3), attempt)
    chart = chart_of(run)
    assert chart["raw"] and chart["steps"] == list(range(60, 660))
    by_attempt = charts_by_attempt(run.pk)[1][LOSS]["attempts"]
    assert [(number, one["raw"], one["count"]) for number, one in by_attempt.items()] == [
        (number, True, 60) for number in range(1, 11)
    ]
    zoom = Extent(start=100, end=300)
    assert chart_of(run, extent=zoom)["steps"] == list(range(100, 301))
    zoomed = charts_by_attempt(run.pk, extent=zoom)[1][LOSS]["attempts"]
    assert [step for one in zoomed.values() for step in one["steps"]] == list(range(100, 301))


@pytest.mark.parametrize(("attempts", "buckets", "most"), [(5, 1000, 1000), (60, 150, 150), (200, 150, 400)])
def test_attempts_share_the_rows_of_their_series(run: Run, attempts: int, buckets: int, most: int) -> None:
    steps = np.arange(100)
    for attempt in range(2, attempts + 1):
        store_folded(run, LOSS, Points(steps, steps * 20, steps / 3), attempt)
    long = np.arange(CHUNK_POINTS * 2)
    store_folded(run, LOSS, Points(long, long * 20, long / 3), 1)
    drawn = charts_by_attempt(run.pk, buckets=buckets)[1][LOSS]["attempts"]
    counts = {number: chart["count"] for number, chart in drawn.items()}
    assert counts == {1: len(long)} | dict.fromkeys(range(2, attempts + 1), 100)
    fewest = min(FEWEST_BUCKETS, max(2, buckets // attempts))
    assert all(len(chart["steps"]) >= fewest for chart in drawn.values())
    assert sum(len(chart["steps"]) for chart in drawn.values()) <= most


def test_a_range_of_time_leaves_attempts_over_their_own_axis(run: Run) -> None:
    """Steps of a later attempt come after those that it superseded: over time they would be one line."""
    store(run, [float(value) for value in range(100)])
    store(run, [0.0] * 50, first=50, attempt=2)
    samples = np.arange(100)
    store_folded(run, "host/cpu", Points(samples, (samples * 20 + int(START * 1000)), samples / 3))
    extent = Extent("time", START + 0.2, START + 1.2)
    series = charts_by_attempt(run.pk, extent=extent)[1]
    assert (series[LOSS]["axis"], series["host/cpu"]["axis"]) == ("step", "time")
    drawn = series[LOSS]["attempts"]
    assert [chart["axis"] for chart in drawn.values()] == ["step", "step"]
    assert {number: (chart["steps"][0], chart["steps"][-1]) for number, chart in drawn.items()} == {
        1: (10, 60),
        2: (50, 60),
    }
    assert len(drawn[1]["times"]) == len(drawn[1]["steps"])
    assert charts(run.pk, extent=extent)[1][LOSS]["axis"] == "time"
