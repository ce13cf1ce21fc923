"""The headers of all responses: the Content-Security-Policy, a ban on caching pages, and the build of the portal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import add_never_cache_headers
from django.utils.decorators import sync_and_async_middleware

from monitor_site.web_app import build_id

ADMIN = "/admin/"
# The theme's Alpine.js evaluates the expressions in its attributes and sets styles; scripts of other hosts and inline
# scripts are forbidden there too.
OF_ADMIN = {"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]}
BUILD_HEADER = "Steersman-Build"


class ContentPolicy(CSPMiddleware):
    """Sends `CONTENT_SECURITY_POLICY`; on pages of the admin, `OF_ADMIN` replaces directives of the same names."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if request.path_info.startswith(ADMIN) and not report_only:
            parts.replace = {**(parts.replace or {}), **OF_ADMIN}
        return parts


@sync_and_async_middleware
def mark_pages(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: every response names the build, so that a page that is older than the portal offers to reload.

    Browsers and proxies must not store pages and redirects, unless the view has set a cache header, because pages show
    what one person may see at one moment.
    """
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            return _marked(await get_response(request))

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        return _marked(get_response(request))

    return answer


def _marked(response: HttpResponseBase) -> HttpResponseBase:
    response.headers[BUILD_HEADER] = build_id()
    is_page = response.get("Content-Type", "").startswith("text/html")
    if is_page and not response.has_header("Cache-Control"):
        add_never_cache_headers(response)
    return response
