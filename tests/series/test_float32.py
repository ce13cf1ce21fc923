"""float32 values are sent with few digits, and equal the logged values wherever points are read."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.protocol.events import Block, Column, Metrics, decode_event
from runs.recording.record_side.point_events import metrics_events
from runs.series.float32 import exact_columns, shortest, with_few_digits
from runs.series.laps import StepOrder
from runs.series.storage import points_of
from steersman.records.kinds import PointRecord
from steersman.records.point_blocks import in_blocks
from tests.support.stored_points import metrics_event

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
ODD = [
    0.0,
    -0.0,
    SMALLEST,
    -3 * SMALLEST,
    1.1754943508222875e-38,
    LARGEST,
    -LARGEST,
    1e10,
    16777216.0,
    0.5,
    7.038530691851209e-26,
]

singles = st.floats(width=32, allow_nan=False, allow_infinity=False)
doubles = st.floats(allow_nan=False, allow_infinity=False)


def bits(values: list[Any]) -> list[Any]:
    """Return values in a form in which zero and minus zero differ."""
    return [None if value is None else struct.pack("d", value) for value in values]


def block_of(values: dict[str, Column]) -> Block:
    steps = list(range(len(next(iter(values.values())))))
    return Block(steps=steps, times=[float(step) for step in steps], values=values)


def as_read(block: Block) -> Block:
    return msgspec.json.decode(msgspec.json.encode(block), type=Block)


def float32s(count: int, seed: int = 1) -> list[Any]:
    chance = random.Random(seed)
    return [struct.unpack("f", struct.pack("f", chance.lognormvariate(0, 5)))[0] for _ in range(count)]


@given(st.lists(singles, min_size=1))
def test_every_float32_is_told_by_a_decimal_of_at_most_nine_digits(values):
    for value, short in zip(values, shortest(values), strict=True):
        assert struct.pack("f", short) == struct.pack("f", value)
        digits = repr(short).lstrip("-").partition("e")[0].replace(".", "").strip("0")
        assert len(digits) <= 9
        # With one digit less it would be another number.
        fewer = float(f"{value:.{max(len(digits) - 1, 1)}g}")
        assert len(digits) <= 1 or struct.pack("f", fewer) != struct.pack("f", value)


@pytest.mark.parametrize("value", ODD)
def test_odd_float32s_come_back(value):
    (short,) = shortest([value])
    assert struct.pack("f", short) == struct.pack("f", value)


@given(
    st.dictionaries(st.text(max_size=5), st.lists(st.none() | singles | doubles, min_size=3, max_size=3), min_size=1)
)
def test_columns_are_read_as_they_were_whatever_they_hold(values):
    block = block_of(values)
    short = with_few_digits(block)
    assert len(msgspec.json.encode(short)) <= len(msgspec.json.encode(block))
    found = exact_columns(as_read(short))
    assert {name: bits(column) for name, column in found.items()} == {
        name: bits(column) for name, column in values.items()
    }


def test_a_column_of_doubles_is_named_and_stays_whole():
    values: dict[str, Column] = {f"loss/{number}": float32s(2, number) for number in range(8)}
    values["rate"] = [0.1, 0.2]
    block = with_few_digits(block_of(values))
    assert block.float32 and block.float64 == ["rate"] and block.values["rate"] == [0.1, 0.2]
    assert len(msgspec.json.encode(block)) < 0.8 * len(msgspec.json.encode(block_of(values)))
    assert all(bits(exact_columns(as_read(block))[name]) == bits(column) for name, column in values.items())


@pytest.mark.parametrize(
    "values",
    [
        {"loss": [0.1, 0.2]},
        {"loss": [0.5, 3.0, -0.0]},
        {"loss": [None, None]},
        {"loss": [1e300, 2.0**24 + 1]},
        # A mark would take more digits than one number can save.
        {"loss": float32s(1)},
    ],
    ids=["doubles", "short already", "nothing", "beyond all float32s", "one number"],
)
def test_what_would_not_become_smaller_stays_as_it_is(values):
    block = block_of(values)
    assert with_few_digits(block) is block
    assert msgspec.json.decode(msgspec.json.encode(block)).keys() == {"steps", "times", "values", "nonfinite"}


def test_events_that_were_stored_without_a_mark_are_read_as_they_stand():
    frame = (
        '{"seq":1,"kind":"metrics","at":"2026-01-01T00:00:00.000Z","attempt":1,"step":1,'
        '"last_point_at":"2026-01-01T00:00:00.000Z","blocks":[{"steps":[1],"times":[1.0],"values":{"loss":[0.1]}}]}'
    )
    event = decode_event(frame)
    assert isinstance(event, Metrics)
    assert list(points_of(event)) == [("loss", 0, [1], [1.0], [0.1])]


def test_what_a_training_logged_is_what_is_read(tmp_path):
    logged = {f"loss/{number}": column for number, column in enumerate(zip(*[iter(float32s(30))] * 10, strict=True))}
    logged |= {"odd": (math.nan, math.inf, -math.inf, -0.0, SMALLEST, *float32s(5)), "rate": tuple([0.1] * 10)}
    records = [
        PointRecord(time=float(step), step=step, values={name: column[step] for name, column in logged.items()})
        for step in range(10)
    ]
    (event,) = metrics_events(1, in_blocks(records), StepOrder())
    assert event.blocks[0].float32 and event.blocks[0].float64 == ["rate"]
    read = {name: values for name, _, _, _, values in points_of(metrics_event([as_read(event.blocks[0])]))}
    assert {name: list(map(repr, values)) for name, values in read.items()} == {
        name: list(map(repr, values)) for name, values in logged.items()
    }
