"""Requests from this machine only: an application that answers no others while debugging, under any server."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

SENTENCE = (
    "STEERSMAN_DEBUG is on: error pages show settings and source code, so the portal answers only requests from this "
    "machine that are sent directly to localhost or 127.0.0.1. Unset STEERSMAN_DEBUG to admit other machines.\n"
)
# Headers of proxies: behind a proxy on this machine, every visitor seems to be local.
FORWARDED = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via"}
)

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


def is_loopback(bind: str) -> bool:
    """Return whether a server that listens on `bind` can only be reached from this machine."""
    try:
        return ipaddress.ip_address(bind.strip("[]")).is_loopback
    except ValueError:
        return bind == "localhost"


def only_from_this_machine(application: Application) -> Application:
    """Return an ASGI application that answers 403 to remote clients, clients behind a proxy, and other Host names."""

    async def answer(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or is_from_here(scope):
            await application(scope, receive, send)
        elif scope["type"] == "websocket":
            # Closed before it is accepted, so the server answers 403.
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            text = SENTENCE.encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": text})

    return answer


def is_from_here(scope: dict[str, Any]) -> bool:
    """Return whether an ASGI connection comes from this machine: by its address and Host, and without headers of
    proxies.

    Without an address (a socket file), it comes from a proxy.
    """
    client = scope.get("client")
    headers: Iterable[tuple[bytes, bytes]] = scope.get("headers") or ()
    names = {name.lower() for name, _ in headers}
    hosts = [value.decode("latin-1") for name, value in headers if name.lower() == b"host"]
    return (
        client is not None
        and is_loopback(str(client[0]).removeprefix("::ffff:"))
        and not names & FORWARDED
        and all(is_loopback(_without_port(host)) for host in hosts)
    )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()
