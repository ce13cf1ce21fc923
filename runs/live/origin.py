"""Refuse WebSocket handshakes from pages of other origins: scheme, host and port are compared (RFC 6454).

A client outside the browser sends no Origin; its ticket decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from channels.security.websocket import WebsocketDenier
from django.conf import settings

DEFAULT_PORTS = {"http": 80, "https": 443}

Application = Callable[[dict[str, Any], Any, Any], Awaitable[Any]]


class OriginGuard:
    """ASGI middleware: a handshake whose Origin is not the portal's own, or listed, gets 403."""

    def __init__(self, application: Application) -> None:
        self.application = application

    def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Awaitable[Any]:
        # No coroutine of its own: it would be kept as long as the socket.
        headers = dict(scope.get("headers", []))
        origin = headers.get(b"origin")
        host = headers.get(b"host", b"").decode("latin-1")
        if origin is None or origin_allowed(origin.decode("latin-1"), host, scope):
            return self.application(scope, receive, send)
        denied: Awaitable[Any] = WebsocketDenier()(scope, receive, send)
        return denied


def origin_allowed(origin: str, host: str, scope: dict[str, Any]) -> bool:
    """Tell whether `origin` is the one that served `host`, or one of STEERSMAN_ORIGINS."""
    parsed = parse_origin(origin)
    if parsed is None:
        return False
    secure = settings.BEHIND_TLS or scope.get("scheme") in ("wss", "https")
    own = parse_origin(f"{'https' if secure else 'http'}://{host}")
    listed = {parse_origin(entry) for entry in settings.STEERSMAN_ORIGINS}
    return parsed == own or parsed in listed


def parse_origin(origin: str) -> tuple[str, str, int] | None:
    """Return (scheme, host, port) of an origin, None where it is malformed or opaque."""
    try:
        parts = urlsplit(origin)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or not port or parts.path.strip("/"):
        return None
    return parts.scheme, parts.hostname.lower(), port
