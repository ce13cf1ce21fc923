"""A proxy before the project's Redis server, which a test can slow down or mute."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path


class Between:
    """Listens on a port of 127.0.0.1 and passes bytes to the server's Unix socket and back."""

    def __init__(self, socket: Path) -> None:
        self.port = 0
        # The delay of bytes in each direction.
        self.delay_s = 0.0
        # Whether connections that subscribed receive nothing any more.
        self.is_mute = False
        self._subscribers: set[asyncio.StreamWriter] = set()
        self._socket = socket
        self._loop = asyncio.new_event_loop()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._listens.wait(60)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def drop_subscribers(self) -> None:
        """End the connections that subscribed to something."""
        for writer in list(self._subscribers):
            self._loop.call_soon_threadsafe(writer.close)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._listens.set()
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind_reader, behind_writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            writer.close()
            return
        with suppress(asyncio.CancelledError):  # this process no longer needs the connection
            await asyncio.gather(self._ask(reader, behind_writer, writer), self._answer(behind_reader, writer))
        self._subscribers.discard(writer)

    async def _ask(
        self, reader: asyncio.StreamReader, behind: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        async for data in _pieces(reader):
            if b"SUBSCRIBE" in data:
                self._subscribers.add(writer)
            self._loop.call_later(self.delay_s, behind.write, data)
        self._loop.call_later(self.delay_s, behind.close)

    async def _answer(self, behind: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for data in _pieces(behind):
            if not (self.is_mute and writer in self._subscribers):
                self._loop.call_later(self.delay_s, writer.write, data)
        self._loop.call_later(self.delay_s, writer.close)


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield received bytes until the other side ends the connection."""
    try:
        while data := await reader.read(1 << 16):
            yield data
    except OSError:
        pass
