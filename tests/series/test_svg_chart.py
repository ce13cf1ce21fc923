"""Static charts: complete SVG for any numbers that a training may report."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runs.series.downsampling import as_chart
from runs.series.packing.chunks import as_buckets, make_points
from runs.series.svg_chart import columns_of, svg_chart, ticks

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def test_it_draws_a_line_for_each_column_and_names_it() -> None:
    columns = columns_of([1, 2, 3], {"training <loss>": [3.0, 2.0, 1.0], "validation loss": [3.5, 2.5, 2.0]})
    picture = drawn(svg_chart(columns, "Loss by epoch"))
    assert picture.get("role") == "img"
    assert "training <loss> 1 to 3" in (picture.get("aria-label") or "")
    first, second = (line.get("points", "").split() for line in picture.iter(f"{SVG}polyline"))
    assert len(first) == len(second) == 3
    heights = [float(point.split(",")[1]) for point in first]
    assert heights == sorted(heights)


def test_it_breaks_the_line_and_marks_what_is_not_finite() -> None:
    points = make_points(range(7), [0.0] * 7, [1.0, 2.0, math.nan, 3.0, 4.0, math.inf, 5.0])
    picture = drawn(svg_chart({"loss": as_chart(as_buckets(points), "step", 100)}, "Loss"))
    assert [len(line.get("points", "").split()) for line in picture.iter(f"{SVG}polyline")] == [2, 2]
    assert len(list(picture.iter(f"{SVG}circle"))) == 1
    marks = [title.text for mark in picture.iter(f"{SVG}path") for title in mark]
    assert marks == ["loss: nan · 2", "loss: inf · 5"]


def test_it_shades_from_minimum_to_maximum() -> None:
    points = make_points(range(1000), [0.0] * 1000, np.sin(np.arange(1000)).tolist())
    picture = drawn(svg_chart({"loss": as_chart(as_buckets(points), "step", 50)}, "Loss"))
    [band] = picture.iter(f"{SVG}polygon")
    assert len(band.get("points", "").split()) == 100


def test_it_says_so_where_there_is_nothing() -> None:
    assert "No values yet" in svg_chart({}, "Loss")
    assert "No values yet" in svg_chart(columns_of([1], {"loss": [None]}), "Loss")


@given(st.lists(st.floats() | st.none(), min_size=1, max_size=20), st.sampled_from(["step", "time"]))
@example([1.7e308, -1.7e308], "step")
@example([0.0, 5e-324], "step")
@example([1.7e308], "time")
def test_it_draws_any_numbers(values: list[float | None], axis: str) -> None:
    numbers = [math.nan if value is None else value for value in values]
    points = make_points(range(len(numbers)), [1.7e9 + place for place in range(len(numbers))], numbers)
    svg = svg_chart({"loss": as_chart(as_buckets(points), axis, 10)}, "Loss")
    if svg.startswith("<svg"):
        picture = drawn(svg)
        placed = [line.get("points", "") for line in picture.iter(f"{SVG}polyline")]
        assert all(0 <= float(point.split(",")[1]) <= 250 for line in placed for point in line.split())


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.1, 0.35, [0.1, 0.15, 0.2, 0.25, 0.3, 0.35]), (5, 5, [5])],
)
def test_it_chooses_round_ticks(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_it_gives_chinese_legends_the_room_that_they_need() -> None:
    columns = {"训练损失": [1.0, 2.0], "验证损失": [1.0, 2.0]}
    latin = {"lossloss": [1.0, 2.0], "other": [1.0, 2.0]}
    places = [
        re.findall(r'<rect x="(\d+)"', svg_chart(columns_of([1, 2], chosen), "Loss")) for chosen in (columns, latin)
    ]
    assert abs(int(places[0][1]) - int(places[1][1])) <= 2


def test_marks_stand_at_their_places_on_the_axis() -> None:
    picture = svg_chart(columns_of([0, 10], {"loss": [1.0, 2.0]}), "Loss", marks=[0, 5, 10])
    places = [float(x) for x in re.findall(r'class="cx-mark" x1="([\d.]+)"', picture)]
    assert places == sorted(places) and places[1] == (places[0] + places[2]) / 2
    assert "cx-mark" not in svg_chart(columns_of([0, 10], {"loss": [1.0, 2.0]}), "Loss")
