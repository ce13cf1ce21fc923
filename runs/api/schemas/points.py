"""Series and their points, merged into buckets or as logged."""

from __future__ import annotations

from typing import Literal

from ninja import Field, Schema


class PointOut(Schema):
    step: int
    time: float = Field(description="Seconds since 1970, UTC")
    value: float | None
    nonfinite: str = Field(description='"nan", "inf" or "-inf" if the value is null because it is not finite')


class SeriesOut(PointOut):
    """A series and its newest point."""

    name: str
    axis: Literal["step", "time"]


class SeriesPage(Schema):
    count: int
    items: list[SeriesOut]


class ChartOut(Schema):
    """Points of a series: single ones if `raw`, otherwise minimum, maximum, mean and last value of each bucket."""

    axis: Literal["step", "time"]
    raw: bool
    count: int = Field(description="Number of points in the range, including merged ones")
    steps: list[int]
    times: list[float]
    values: list[float | None] | None = None
    first_steps: list[int] | None = None
    min: list[float | None] | None = None
    max: list[float | None] | None = None
    mean: list[float | None] | None = None
    last: list[float | None] | None = None
    nonfinite: list[tuple[int, str]] = Field(
        description='Pairs of an index in the columns and the value there: "nan", "inf" or "-inf"'
    )
    nonfinite_steps: list[int] | None = Field(
        None, description="For each pair of `nonfinite`: the step of the first such value in the bucket"
    )
    nonfinite_counts: list[int] | None = Field(
        None, description="For each pair of `nonfinite`: the number of such values in the bucket"
    )
    counts: list[int] | None = Field(None, description="Number of points in each bucket")
    buckets: int | None = Field(None, description="Number of buckets; null with `raw`")


class PointsOut(Schema):
    seq: int = Field(description="The newest event whose points are included")
    series: dict[str, ChartOut]


class AttemptChartsOut(Schema):
    """A series by attempt, and by lap if its step went back. An attempt counts up to the first step of a later one,
    which trained the following steps again.
    """

    axis: Literal["step", "time"]
    attempts: dict[int, ChartOut]
    laps: dict[int, dict[int, ChartOut]] = Field(
        description="By attempt and lap: lap N has the points after the step went back for the Nth time"
    )


class AttemptPointsOut(Schema):
    seq: int = Field(description="The newest event whose points are included")
    series: dict[str, AttemptChartsOut]


class StretchOut(Schema):
    """Consecutive points of one series in one lap of an attempt, as logged."""

    name: str
    attempt: int
    lap: int = Field(description="How many times the step of the series went back in this attempt before these points")
    steps: list[int]
    times: list[float] = Field(description="Seconds since 1970, UTC, to the millisecond")
    values: list[float | None]
    nonfinite: list[tuple[int, str]] = Field(
        description='Pairs of an index in the columns and the value there: "nan", "inf" or "-inf"'
    )


class RawPointsOut(Schema):
    """A page of points ordered by series, attempt and time of logging, including repeated and superseded ones."""

    seq: int = Field(description="The newest event whose points were read")
    count: int = Field(description="How many points this page has")
    items: list[StretchOut]
    next: str | None = Field(description="Address of the next page, null on the last one")
