"""A short path through Django for requests that come in large numbers, such as those for a ticket.

Under ASGI, Django switches to a thread and back for each middleware, and gives each request its own thread and
connection. Here a thread that keeps its connection handles the whole request, with the same view. The middleware that
serves files and the one for messages on pages are left out.
"""

from __future__ import annotations

from collections.abc import Collection
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpResponse, HttpResponseBadRequest
from django.urls import set_script_prefix
from django.utils.module_loading import import_string

from runs.live.database_reads import answering
from runs.live.origin import Application
from runs.outage.patience import AWAY

NEEDLESS = frozenset(
    {
        "monitor_site.static.StaticFilesMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    }
)
# A longer body is cut, and is then no valid JSON.
LARGEST_BODY_BYTES = 64 * 1024


class ShortPath:
    """ASGI middleware: answers requests for `paths` itself, and passes all others to the application."""

    def __init__(self, application: Application, paths: Collection[str]) -> None:
        self.application = application
        self.paths = frozenset(paths)
        self.handler = OneThreadHandler()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        if scope["path"] not in self.paths or scope.get(AWAY):
            # Without the database, the threads here may all wait for it.
            return await self.application(scope, receive, send)
        body = await _body(receive)
        if body is None:
            return None
        response = await answering(self.handler.answer)(scope, body)
        await send({"type": "http.response.start", "status": response.status_code, "headers": _headers(response)})
        await send({"type": "http.response.body", "body": response.content})
        return None


class OneThreadHandler(BaseHandler):
    """Django's request handler with all middleware in one thread."""

    def __init__(self) -> None:
        super().__init__()
        # The attributes that Django sets while it loads the middleware in the settings.
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        handler = convert_exception_to_response(self._get_response)  # type: ignore[attr-defined]
        for name in reversed([name for name in settings.MIDDLEWARE if name not in NEEDLESS]):
            middleware = import_string(name)(handler)
            if hasattr(middleware, "process_view"):
                self._view_middleware.insert(0, middleware.process_view)
            handler = convert_exception_to_response(middleware)
        self._middleware_chain = handler

    def answer(self, scope: dict[str, Any], body: bytes) -> HttpResponse:
        """Answer a request whose body has been read."""
        set_script_prefix(get_script_prefix(scope))
        try:
            request = ASGIRequest(scope, BytesIO(body))
        except UnicodeDecodeError:
            return HttpResponseBadRequest()
        response = self.get_response(request)
        assert isinstance(response, HttpResponse)
        response.close()
        return response


async def _body(receive: Any) -> bytes | None:
    """Return the body of a request, None if its client has disconnected."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if len(body) < LARGEST_BODY_BYTES:
            body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


def _headers(response: HttpResponse) -> list[tuple[bytes, bytes]]:
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    return headers + [
        (b"Set-Cookie", cookie.output(header="").strip().encode()) for cookie in response.cookies.values()
    ]
