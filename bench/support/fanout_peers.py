"""Servers that `fanout.py` compares: stock Channels on Daphne, `websockets.broadcast`, and a bare loop of sends.

usage: python bench/support/fanout_peers.py stock-memory|stock-pubsub|broadcast|floor PORT [REDIS_SOCKET]

Each greets a viewer with one message. When a viewer publishes `{"publish": {...}}`, the server sends it to all viewers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import selectors
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from runs.protocol.wire_format import text_frame  # noqa: E402  pure functions, without Django

HELLO = '{"kind":"hello"}'
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def stock(port: int, redis: str | None) -> None:
    """Serve a Channels application written as in the tutorial, on Daphne with its defaults."""
    import django
    from django.conf import settings

    layer: dict[str, Any] = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    if redis is not None:
        layer = {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [f"unix://{redis}"]}}
    settings.configure(CHANNEL_LAYERS={"default": layer}, ALLOWED_HOSTS=["*"], SECRET_KEY="bench")
    django.setup()
    from channels.generic.websocket import AsyncJsonWebsocketConsumer
    from daphne.endpoints import build_endpoint_description_strings
    from daphne.server import Server

    class Stock(AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            await self.channel_layer.group_add("bench", self.channel_name)
            await self.accept()
            await self.send(HELLO)

        async def receive_json(self, content: dict[str, Any], **options: Any) -> None:
            await self.channel_layer.group_send("bench", {"type": "bench.event", "event": content["publish"]})

        async def bench_event(self, message: dict[str, Any]) -> None:
            await self.send_json(message["event"])

    endpoints = build_endpoint_description_strings(host="127.0.0.1", port=port)
    Server(Stock.as_asgi(), endpoints=endpoints, verbosity=0).run()


def broadcast(port: int) -> None:
    """Serve with the `websockets` library, which sends the same text to all connections."""
    import websockets
    from websockets.asyncio.server import ServerConnection, serve

    connections: set[ServerConnection] = set()

    async def handler(connection: ServerConnection) -> None:
        connections.add(connection)
        await connection.send(HELLO)
        try:
            async for message in connection:
                websockets.broadcast(connections, json.dumps(json.loads(message)["publish"]))
        finally:
            connections.discard(connection)

    async def run() -> None:
        async with serve(handler, "127.0.0.1", port, compression=None, subprotocols=["steersman.v1"]) as server:  # type: ignore[list-item]
            await server.serve_forever()

    asyncio.run(run())


def floor(port: int) -> None:
    """Do the least that a Python program can do: prepare one frame, and call `socket.send` for each viewer."""
    listening = socket.create_server(("127.0.0.1", port), backlog=1024)
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    requests: dict[socket.socket, bytes] = {}
    viewers: list[socket.socket] = []
    while True:
        for key, _ in selector.select():
            found = key.fileobj
            if found is listening:
                viewer, _ = listening.accept()
                viewer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(viewer, selectors.EVENT_READ)
                requests[viewer] = b""
                continue
            assert isinstance(found, socket.socket)
            try:
                data = found.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                selector.unregister(found)
                if found in viewers:
                    viewers.remove(found)
            elif found in requests:
                requests[found] += data
                if b"\r\n\r\n" in requests[found]:
                    _greet(found, requests.pop(found))
                    found.setblocking(False)
                    viewers.append(found)
            else:
                for text in _payloads(data):
                    frame = text_frame(json.dumps(json.loads(text)["publish"]).encode())
                    for viewer in viewers:
                        with contextlib.suppress(ConnectionError):
                            viewer.send(frame)


def _greet(viewer: socket.socket, request: bytes) -> None:
    key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accepted = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest())
    viewer.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n" + text_frame(HELLO.encode())
    )


def _payloads(data: bytes) -> Iterator[bytes]:
    """Return the payloads of whole frames of 126 bytes or more with a zero mask, as `viewers.py` sends them."""
    while data:
        end = 8 + int.from_bytes(data[2:4])
        yield data[8:end]
        data = data[end:]


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "stock-memory":
        stock(port, None)
    elif kind == "stock-pubsub":
        stock(port, sys.argv[3])
    elif kind == "broadcast":
        broadcast(port)
    else:
        floor(port)
