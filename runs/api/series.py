"""Series of a run: which there are, and their points in any range, merged to a number of buckets."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Router

from runs.api.callers import visible_run
from runs.api.errors import ApiError
from runs.api.history import chart_range
from runs.api.schemas import ErrorOut, PointsOut, SeriesPage
from runs.models import Series
from runs.series.charts import BUCKETS, MOST_BUCKETS, MOST_SERIES_AT_ONCE

router = Router(tags=["series"])
ERRORS = {401: ErrorOut, 404: ErrorOut, 422: ErrorOut}


@router.get("/{int:run_id}/series/", response={200: SeriesPage, **ERRORS}, summary="Series of a run, by name")
def list_series(
    request: HttpRequest,
    run_id: int,
    limit: int = Query(200, ge=1, le=1000),
    offset: int = Query(0, ge=0, le=10**9),
) -> dict[str, Any]:
    series = Series.objects.filter(run=visible_run(request, run_id)).order_by("name")
    items = [
        {
            "name": one.name,
            "axis": str(one.axis),
            "step": one.last_step,
            "time": one.last_time,
            "value": one.last_value,
            "nonfinite": one.last_nonfinite,
        }
        for one in series[offset : offset + limit]
    ]
    return {"count": series.count(), "items": items}


@router.get(
    "/{int:run_id}/points/",
    response={200: PointsOut, **ERRORS},
    exclude_none=False,
    exclude_unset=True,
    summary="Points of series",
)
def points(
    request: HttpRequest,
    run_id: int,
    name: Annotated[
        list[str], Query(min_length=1, max_length=MOST_SERIES_AT_ONCE, description="Repeat it for several series")
    ],
    by: Literal["step", "time"] = "step",
    start: float | None = Query(None, alias="from", description="A step, or seconds since 1970"),
    end: float | None = Query(None, alias="to", description="A step, or seconds since 1970"),
    buckets: int = Query(BUCKETS, ge=1, le=MOST_BUCKETS, description="Most rows of a series"),
) -> dict[str, Any]:
    """Every point where they are few; else minimum, maximum, mean and last of each bucket, so that no spike hides."""
    run = visible_run(request, run_id)
    for field, bound in (("from", start), ("to", end)):
        if bound is not None and not math.isfinite(bound):
            raise ApiError(422, _("Give a number: a step, or seconds since 1970."), field)
    return chart_range(run, name, start, end, buckets, by)
