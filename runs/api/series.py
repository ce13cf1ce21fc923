"""Series of a run: their list, and their points in any range, merged into buckets or as logged."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router

from runs.api.answers import encoded, if_changed, tag_of, with_query
from runs.api.callers import READERS, visible_run
from runs.api.charting.query import ChartQuery
from runs.api.history import version
from runs.api.schemas.errors import ErrorOut
from runs.api.schemas.points import AttemptPointsOut, PointsOut, RawPointsOut, SeriesPage
from runs.models import Run, Series
from runs.protocol.series_names import natural_key
from runs.series.charts import Extent, charts, charts_by_attempt
from runs.series.raw_points import Place, raw_points

router = Router(tags=["series"])
ERRORS = {401: ErrorOut, 404: ErrorOut, 422: ErrorOut}


@router.get("/{int:run_id}/series/", response={200: SeriesPage, **ERRORS}, summary="Series of a run, by name")
def list_series(
    request: HttpRequest,
    run_id: int,
    limit: int = Query(200, ge=1, le=1000),
    offset: int = Query(0, ge=0, le=10**9),
) -> dict[str, Any]:
    series = Series.objects.filter(run=visible_run(request, run_id)).order_by()
    names = sorted(series.values_list("name", flat=True), key=natural_key)
    page = {one.name: one for one in series.filter(name__in=names[offset : offset + limit])}
    items = [
        {
            "name": one.name,
            "axis": str(one.axis),
            "step": one.last_step,
            "time": one.last_time,
            "value": one.last_value,
            "nonfinite": one.last_nonfinite,
        }
        for one in (page[name] for name in names[offset : offset + limit])
    ]
    return {"count": len(names), "items": items}


@router.get(
    "/{int:run_id}/points/",
    url_name="points",
    auth=READERS,
    response={200: PointsOut | AttemptPointsOut | RawPointsOut, **ERRORS},
    summary="Points of series",
)
def points(request: HttpRequest, run_id: int, query: Query[ChartQuery]) -> HttpResponse:
    """Every point if there are few; otherwise minimum, maximum, mean and last value of each bucket, so that spikes stay
    visible.

    Points that a later attempt trained again are left out; with `by_attempt`, each attempt has all of its own.

    With `raw`, every logged point is returned by series and attempt, including those that a later attempt trained again
    and steps that were logged twice. `next` is the address of the next page.
    """
    run = visible_run(request, run_id)
    tag = tag_of(version(run), request.get_full_path())
    return if_changed(request, tag, lambda: _points(request, run, query))


def _points(request: HttpRequest, run: Run, query: ChartQuery) -> HttpResponse:
    if not query.raw:
        read = charts_by_attempt if query.by_attempt else charts
        seq, series = read(run.pk, query.names, query.buckets, Extent(query.by, query.start, query.end))
        return encoded({"seq": seq, "series": series})
    extent = Extent(query.by, query.start, query.end)
    seq, page = raw_points(run.pk, query.names, extent, Place.of(query.after) or Place(), query.limit)
    following = with_query(request, after=str(page.following)) if page.following else None
    return encoded({"seq": seq, "count": page.count, "items": page.items, "next": following})
