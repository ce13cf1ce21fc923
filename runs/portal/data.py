"""JSON for the page: history and finer ranges of series. Errors name field and remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Concatenate

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from runs.access.roles import role_of
from runs.api.history import chart_range, details, history
from runs.models import Run, RunQuerySet
from runs.recording.queue_places import place_of
from runs.series.charts import MOST_BUCKETS, MOST_SERIES_AT_ONCE

RunHandler = Callable[[HttpRequest, Run], HttpResponseBase]


def _refuse(status: int, error: str, field: str = "") -> JsonResponse:
    return JsonResponse({"error": error, "field": field}, status=status)


def for_viewers(view: RunHandler) -> Callable[Concatenate[HttpRequest, ...], HttpResponseBase]:
    """Hand `view` the run, if the session's user may see it; 401 and 404 in JSON otherwise."""

    @never_cache
    @require_GET
    @wraps(view)
    def guarded(request: HttpRequest, pk: int) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _refuse(401, _("Log in again: the session has ended."))
        run = Run.objects.visible_to(request.user).select_related("project", "recipe").filter(pk=pk).first()
        if run is None:
            return _refuse(404, _("There is no such run, or you are no member of its project."), "run")
        return view(request, run)

    return guarded


@for_viewers
def history_of_run(request: HttpRequest, run: Run) -> HttpResponse:
    """Return everything that the page shows, as of `seq`."""
    return JsonResponse(history(run, role_of(request.user, run) or ""))


@for_viewers
def details_of_run(request: HttpRequest, run: Run) -> HttpResponse:
    """Return what no event tells: attempts and how they ended, environment, configuration."""
    return JsonResponse(details(run, role_of(request.user, run) or ""))


@for_viewers
def place_of_run(request: HttpRequest, run: Run) -> HttpResponse:
    """Return the place of a queued run in line, for the page to ask again while it waits."""
    return place_as_json(run, Run.objects.visible_to(request.user))


def place_as_json(run: Run, visible: RunQuerySet) -> JsonResponse:
    place = place_of(run, visible)
    return JsonResponse({"place": place.as_wire() if place else None})


@for_viewers
def series_of_run(request: HttpRequest, run: Run) -> HttpResponse:
    """Return what `chart_ranges` does."""
    return chart_ranges(request, run)


def chart_ranges(request: HttpRequest, run: Run) -> HttpResponse:
    """Return `name` (repeated) between `from` and `to` in at most `buckets` buckets, by `step` or `time`."""
    names = request.GET.getlist("name")
    if not 1 <= len(names) <= MOST_SERIES_AT_ONCE:
        return _refuse(422, _("Name between 1 and %(most)d series.") % {"most": MOST_SERIES_AT_ONCE}, "name")
    by = request.GET.get("by", "step")
    if by not in ("step", "time"):
        return _refuse(422, _("Use step or time."), "by")
    bounds = {}
    for field in ("from", "to"):
        bound = _number(request.GET.get(field, ""))
        if bound is None:
            return _refuse(422, _("Give a number: a step, or seconds since 1970."), field)
        bounds[field] = bound
    buckets = request.GET.get("buckets", "800")
    if not buckets.isdecimal() or not 1 <= int(buckets[:9]) <= MOST_BUCKETS:
        return _refuse(422, _("Give a whole number from 1 to %(most)d.") % {"most": MOST_BUCKETS}, "buckets")
    return JsonResponse(chart_range(run, names, bounds["from"], bounds["to"], int(buckets), by))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
