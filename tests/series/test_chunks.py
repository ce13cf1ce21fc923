"""Packing of points and of their summaries: bit for bit, and small."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runs.series.chunks import (
    BUCKET_POINTS,
    CHUNK_POINTS,
    Points,
    make_points,
    pack_buckets,
    pack_points,
    summarise,
    unpack_buckets,
    unpack_points,
)
from tests.support.stored_points import START, bits, floats

steps = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10_000)
times = st.floats(0, 4e9)
logged = st.lists(st.tuples(steps, times, floats), min_size=1, max_size=300)


def unzipped(points: list[tuple[int, float, float]]) -> Points:
    return make_points(
        [step for step, _, _ in points], [time for _, time, _ in points], [value for *_, value in points]
    )


@given(logged)
def test_it_gives_points_back_bit_for_bit(points: list[tuple[int, float, float]]) -> None:
    packed_of = unzipped(points)
    back = unpack_points([pack_points(packed_of)], [len(points)])
    assert back.steps.tolist() == [step for step, _, _ in points]
    assert bits(back.values) == bits(value for _, _, value in points)
    assert all(abs(ms / 1000 - time) <= 0.00051 for ms, (_, time, _) in zip(back.times_ms, points, strict=True))


@given(st.lists(logged, min_size=1, max_size=5))
def test_it_unpacks_many_as_it_unpacks_each(lists: list[list[tuple[int, float, float]]]) -> None:
    all_points = [unzipped(points) for points in lists]
    packed = [pack_points(points) for points in all_points]
    together = unpack_points(packed, [len(points) for points in all_points])
    apart = [unpack_points([each], [len(points)]) for each, points in zip(packed, all_points, strict=True)]
    assert together.steps.tolist() == list(itertools.chain.from_iterable(each.steps.tolist() for each in apart))
    assert bits(together.values) == bits(itertools.chain.from_iterable(each.values.tolist() for each in apart))


@given(st.lists(floats, min_size=1, max_size=300))
def test_it_summarises_every_64_points(values: list[float]) -> None:
    points = make_points(range(len(values)), [START] * len(values), values)
    rows = unpack_buckets([pack_buckets(summarise(points))], [len(values)])
    for place in range(len(rows)):
        part = values[place * BUCKET_POINTS : (place + 1) * BUCKET_POINTS]
        finite = [value for value in part if math.isfinite(value)]
        assert rows.counts[place] == len(part)
        assert rows.nonfinite[place] == len(part) - len(finite)
        assert bits(rows.last[place : place + 1]) == bits(part[-1:])
        if finite:
            assert (rows.minimum[place], rows.maximum[place]) == (min(finite), max(finite))
            assert min(finite) <= rows.mean[place] <= max(finite)
        else:
            assert math.isnan(rows.minimum[place])
            assert math.isnan(rows.mean[place])


def test_it_stores_float64_in_at_most_eight_and_a_half_bytes_a_point() -> None:
    random = np.random.default_rng(7)
    times = START + np.cumsum(random.gamma(20, 0.001, CHUNK_POINTS))
    points = Points(
        np.arange(CHUNK_POINTS), np.rint(times * 1000).astype(np.int64), random.normal(1, 0.05, CHUNK_POINTS)
    )
    packed = len(pack_points(points)) + len(pack_buckets(summarise(points)))
    assert packed <= 8.5 * CHUNK_POINTS
    single = Points(points.steps, points.times_ms, points.values.astype(np.float32).astype(np.float64))
    assert len(pack_points(single)) + len(pack_buckets(summarise(single))) <= 5 * CHUNK_POINTS
