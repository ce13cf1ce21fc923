"""Forbids caching of pages, because they show what one person may see at one moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import add_never_cache_headers
from django.utils.decorators import sync_and_async_middleware


@sync_and_async_middleware
def keep_no_pages(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: browsers and proxies must not store pages and redirects, unless the view has set a cache header."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            return _unkept(await get_response(request))

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        return _unkept(get_response(request))

    return answer


def _unkept(response: HttpResponseBase) -> HttpResponseBase:
    is_page = response.get("Content-Type", "").startswith("text/html")
    if is_page and not response.has_header("Cache-Control"):
        add_never_cache_headers(response)
    return response
