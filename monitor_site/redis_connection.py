"""Connections to the embedded server only. A separate module, because redis is slow to import."""

from __future__ import annotations

import asyncio
from pathlib import Path
from socket import socket
from typing import Any
from urllib.parse import unquote, urlsplit

from channels_redis.pubsub import RedisPubSubChannelLayer
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.connection import UnixDomainSocketConnection as PlainConnection

from monitor_site.redis_socket import check_peer, check_socket


class OwnSocketConnection(UnixDomainSocketConnection):
    """Checks at each connect and reconnect that folder, socket and process belong to this user.

    A failed check looks like an unavailable server: an `OSError`, which redis turns into a `ConnectionError` with its
    text.
    """

    async def _connect(self) -> None:
        check_socket(Path(self.path))
        async with asyncio.timeout(self.socket_connect_timeout):
            reader, writer = await asyncio.open_unix_connection(path=self.path)
        try:
            # Before any byte is sent or received.
            check_peer(writer.get_extra_info("socket"))
        except PermissionError:
            writer.close()
            raise
        self._reader, self._writer = reader, writer
        await self.on_connect()


class OwnSocketLayer(RedisPubSubChannelLayer):
    """The channel layer on the embedded server; its hosts are unix:// addresses."""

    def __init__(self, *, hosts: list[dict[str, Any]], **config: Any) -> None:
        super().__init__(hosts=[_own(host) for host in hosts], **config)


def _own(host: dict[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in host.items() if name != "address"}
    return {"connection_class": OwnSocketConnection, "path": unquote(urlsplit(host["address"]).path), **options}


class OwnPlainConnection(PlainConnection):
    """The same for synchronous code."""

    def _connect(self) -> Any:
        check_socket(Path(self.path))
        connected: socket = super()._connect()
        try:
            check_peer(connected)
        except PermissionError:
            connected.close()
            raise
        return connected
