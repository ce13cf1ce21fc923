"""The time zone of the reader for the admin, whose dates the server writes. Other pages apply it in the browser."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.decorators import sync_and_async_middleware

from monitor_site.middleware.response_headers import ADMIN

# Set by static/js/shared/moments.js, on the login page at the latest.
COOKIE = "steersman_zone"

_known_zones = lru_cache(1)(available_timezones)


@sync_and_async_middleware
def in_readers_zone(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: pages of the admin have the times of the reader's zone, UTC if it is unknown."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            with timezone.override(_zone_of(request)):
                response: HttpResponseBase = await get_response(request)
                return response

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        with timezone.override(_zone_of(request)):
            response: HttpResponseBase = get_response(request)
            return response

    return answer


def _zone_of(request: HttpRequest) -> ZoneInfo | None:
    name = request.COOKIES.get(COOKIE, "")
    if not name or not request.path_info.startswith(ADMIN) or name not in _known_zones():
        return None
    return ZoneInfo(name)
