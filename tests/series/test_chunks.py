"""Packing of points and of their summaries: bit for bit, and small."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.series.packing.chunks import (
    BUCKET_POINTS,
    CHUNK_POINTS,
    Packed,
    Points,
    make_points,
    pack_buckets,
    pack_points,
    summarise,
    unpack_buckets,
    unpack_points,
)
from runs.series.packing.columns import pack_columns, unpack_columns
from tests.support.stored_points import START, bits, floats

# Columns as in real trainings: any floats, float32s, short decimals, one repeated value, and cycles.
short = st.integers(0, 7).flatmap(
    lambda decimals: st.lists(st.integers(-(10**9), 10**9).map(lambda whole: whole / 10**decimals), min_size=1)
)
columns = st.one_of(
    st.lists(floats, min_size=1, max_size=300),
    st.lists(st.floats(width=32), min_size=1, max_size=300),
    short,
    st.tuples(floats, st.integers(1, 300)).map(lambda chosen: [chosen[0]] * chosen[1]),
    st.lists(floats, min_size=1, max_size=20).map(lambda cycle: cycle * 15),
)
steps = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10_000)
times = st.floats(0, 4e9)
logged = st.lists(st.tuples(steps, times, floats), min_size=1, max_size=300)


def unzipped(points: list[tuple[int, float, float]]) -> Points:
    return make_points(
        [step for step, _, _ in points], [time for _, time, _ in points], [value for *_, value in points]
    )


def size(packed: Packed) -> int:
    return len(packed.places) + len(packed.values)


@given(logged)
def test_it_gives_points_back_bit_for_bit(points: list[tuple[int, float, float]]) -> None:
    packed_of = unzipped(points)
    back = unpack_points([pack_points(packed_of)], [len(points)])
    assert back.steps.tolist() == [step for step, _, _ in points]
    assert bits(back.values) == bits(value for _, _, value in points)
    assert all(abs(ms / 1000 - time) <= 0.00051 for ms, (_, time, _) in zip(back.times_ms, points, strict=True))


@given(columns)
def test_it_gives_values_of_every_kind_back_bit_for_bit(values: list[float]) -> None:
    points = make_points(range(len(values)), [START] * len(values), values)
    assert bits(unpack_points([pack_points(points)], [len(points)]).values) == bits(values)


@given(st.lists(logged, min_size=1, max_size=5))
def test_it_unpacks_many_as_it_unpacks_each(lists: list[list[tuple[int, float, float]]]) -> None:
    all_points = [unzipped(points) for points in lists]
    packed = [pack_points(points) for points in all_points]
    together = unpack_points(packed, [len(points) for points in all_points])
    apart = [unpack_points([each], [len(points)]) for each, points in zip(packed, all_points, strict=True)]
    assert together.steps.tolist() == list(itertools.chain.from_iterable(each.steps.tolist() for each in apart))
    assert bits(together.values) == bits(itertools.chain.from_iterable(each.values.tolist() for each in apart))


@given(columns, st.data())
def test_it_refuses_what_is_damaged(values: list[float], data: st.DataObject) -> None:
    packed = bytearray(pack_columns([np.asarray(values)]))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match=r"damaged|another version"):
        unpack_columns([bytes(packed)], 1, [len(values)])


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
    packed = size(pack_points(points)) + size(pack_buckets(summarise(points)))
    assert packed <= 8.5 * CHUNK_POINTS
    single = Points(points.steps, points.times_ms, points.values.astype(np.float32).astype(np.float64))
    assert size(pack_points(single)) + size(pack_buckets(summarise(single))) <= 5 * CHUNK_POINTS


@pytest.mark.parametrize(
    ("kind", "most_bytes"), [("float32", 4.15), ("one decimal", 2.1), ("whole numbers", 2.1), ("a cycle", 1.2)]
)
def test_it_stores_what_trainings_log_in_few_bytes_a_point(kind: str, most_bytes: float) -> None:
    random = np.random.default_rng(7)
    normal = random.normal(50, 10, CHUNK_POINTS)
    values = {
        "float32": normal.astype(np.float32).astype(np.float64),
        "one decimal": np.round(normal, 1),
        "whole numbers": np.round(normal * 20),
        "a cycle": np.resize(0.1 / np.arange(1, 101), CHUNK_POINTS),
    }[kind]
    steps = np.arange(CHUNK_POINTS)
    points = Points(steps, int(START * 1000) + 100 * steps + random.integers(-3, 4, CHUNK_POINTS), values)
    packed = pack_points(points)
    assert size(packed) + size(pack_buckets(summarise(points))) <= most_bytes * CHUNK_POINTS
    assert bits(unpack_points([packed], [CHUNK_POINTS]).values) == bits(values)
