"""Queries of points of series: one parser and one set of limits for charts and scripts."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from django.utils.translation import gettext as _
from ninja import Field, Schema
from pydantic import AfterValidator, BeforeValidator, ValidationInfo, field_validator

from runs.models import Series
from runs.series.charts import BUCKETS, MOST_BUCKETS, MOST_SERIES_AT_ONCE
from runs.series.raw_points import MOST_POINTS_A_PAGE, POINTS_A_PAGE, Place

LONGEST_NAME = Series._meta.get_field("name").max_length or 0
# As in JSON and Python. Other texts that `float` accepts (nan, 1_000, digits of other scripts) are mistakes.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
LONGEST_NUMBER = 64
WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


def _name(name: str) -> str:
    if not 1 <= len(name) <= LONGEST_NAME:
        raise ValueError(_("Give names of 1 to %(most)d characters.") % {"most": LONGEST_NAME})
    return name


def _names(names: Any) -> Any:
    if isinstance(names, list) and not 1 <= len(names) <= MOST_SERIES_AT_ONCE:
        raise ValueError(_("Name between 1 and %(most)d series.") % {"most": MOST_SERIES_AT_ONCE})
    return names


def _bound(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    is_number = len(text) <= LONGEST_NUMBER and NUMBER.fullmatch(text)
    if not is_number or not math.isfinite(number := float(text)):
        raise ValueError(_("Give a number: a step, or seconds since 1970."))
    return number


def _whole_number(most: int) -> BeforeValidator:
    def parse(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        if not WHOLE_NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
            raise ValueError(_("Give a whole number from 1 to %(most)d.") % {"most": most})
        return int(text)

    return BeforeValidator(parse)


class ChartQuery(Schema):
    """Names, range and resolution. `limit` and `after` apply to `raw` points, `buckets` to all others."""

    name: Annotated[list[Annotated[str, AfterValidator(_name)]], BeforeValidator(_names)] = Field(
        description=f"Name of a series; repeat the field for up to {MOST_SERIES_AT_ONCE} series"
    )
    by: Literal["step", "time"] = Field("step", description="The unit of `from` and `to`")
    start: Annotated[float | None, BeforeValidator(_bound)] = Field(
        None, alias="from", description="A step, or seconds since 1970; included"
    )
    end: Annotated[float | None, BeforeValidator(_bound)] = Field(
        None, alias="to", description="A step, or seconds since 1970; included"
    )
    raw: bool = Field(False, description="Points as they were logged, of all attempts, one page at a time")
    by_attempt: bool = Field(False, description="A chart per attempt, including points that later attempts repeated")
    buckets: Annotated[int, _whole_number(MOST_BUCKETS)] = Field(
        BUCKETS, description=f"Maximum number of rows per series, up to {MOST_BUCKETS}"
    )
    limit: Annotated[int, _whole_number(MOST_POINTS_A_PAGE)] = Field(
        POINTS_A_PAGE, description=f"Maximum number of raw points per page, up to {MOST_POINTS_A_PAGE}"
    )
    after: str = Field("", description="Start of a page of raw points: the value in `next` of the preceding page")

    @field_validator("end")
    @classmethod
    def _not_before_start(cls, end: float | None, info: ValidationInfo) -> float | None:
        start = info.data.get("start")
        if start is not None and end is not None and end < start:
            raise ValueError(_('"to" must not be less than "from".'))
        return end

    @field_validator("by_attempt")
    @classmethod
    def _charted(cls, by_attempt: bool, info: ValidationInfo) -> bool:
        if info.data.get("raw"):
            raise ValueError(_("Leave by_attempt out: raw points are always returned per attempt."))
        return by_attempt

    @field_validator("buckets")
    @classmethod
    def _merged(cls, buckets: int, info: ValidationInfo) -> int:
        if info.data.get("raw"):
            raise ValueError(_("Leave buckets out: raw points are not merged. To set the size of a page, give limit."))
        return buckets

    @field_validator("limit", "after")
    @classmethod
    def _paged(cls, value: Any, info: ValidationInfo) -> Any:
        if not info.data.get("raw", True):
            raise ValueError(_("The parameters limit and after are only for raw=true: other points are not paginated."))
        return value

    @field_validator("after")
    @classmethod
    def _place(cls, after: str) -> str:
        if Place.of(after) is None:
            raise ValueError(_("Give after the value of next from the previous page."))
        return after

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(self.name))
