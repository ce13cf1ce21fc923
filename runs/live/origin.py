"""Refuses WebSocket handshakes for other hosts, and from pages of other origins: compares scheme, host and port.

An origin is written as in RFC 6454 §6.2. Clients other than browsers send none and are checked by their ticket.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import split_domain_port, validate_host

DEFAULT_PORTS = {"http": 80, "https": 443}
# Matches the whole text: `http://own.example@evil.example` and `http://evil.example?own.example` are not origins.
ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII)

Application = Callable[[dict[str, Any], Any, Any], Awaitable[Any]]


class OriginGuard:
    """ASGI middleware: answers 403 to a foreign Host, and to an Origin that is neither the portal's nor listed."""

    def __init__(self, application: Application) -> None:
        self.application = application

    def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Awaitable[Any]:
        # Not a coroutine, which would stay in memory as long as the socket.
        headers = dict(scope.get("headers", []))
        origin = headers.get(b"origin")
        host = headers.get(b"host", b"").decode("latin-1")
        domain, _ = split_domain_port(host)
        is_ours = validate_host(domain, settings.ALLOWED_HOSTS)
        if is_ours and (origin is None or origin_allowed(origin.decode("latin-1"), host, scope)):
            return self.application(scope, receive, send)
        denied: Awaitable[Any] = WebsocketDenier()(scope, receive, send)
        return denied


def origin_allowed(origin: str, host: str, scope: dict[str, Any]) -> bool:
    """Return whether `origin` served `host`, or is listed in STEERSMAN_ORIGINS."""
    parsed = parse_origin(origin)
    if parsed is None:
        return False
    secure = settings.BEHIND_TLS or scope.get("scheme") in ("wss", "https")
    own = parse_origin(f"{'https' if secure else 'http'}://{host}")
    listed = {parse_origin(entry.rstrip("/")) for entry in settings.STEERSMAN_ORIGINS}
    return parsed == own or parsed in listed


def parse_origin(origin: str) -> tuple[str, str, int] | None:
    """Return (scheme, host, port) of an origin, None if it is malformed or opaque."""
    found = ORIGIN.fullmatch(origin.lower())
    if found is None:
        return None
    return found["scheme"], found["host"], int(found["port"] or DEFAULT_PORTS[found["scheme"]])
