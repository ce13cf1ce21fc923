"""A link over one outbound WebSocket to a portal. A thread of its own opens, reads and writes it: no call blocks.

The thread has an event loop. With a thread to read and another one to write, a connection with TLS can hang or be
corrupted: OpenSSL allows only one thread at a time to use a connection (https://docs.openssl.org/master/man7/openssl-threads/).
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

import steersman
from steersman.messages.link import FromHost, FromRecord, LinkCut
from steersman.portal.logins import Login
from steersman.portal.requests import (
    VERSION_HEADER,
    PortalError,
    Refused,
    not_a_portal,
    refusal_of,
    said_in,
    unreachable,
)
from steersman.starting.messages import Place
from steersman.wire.codec import BadMessage, decode, encode
from steersman.wire.framing import LARGEST_MESSAGE_BYTES

logger = logging.getLogger(__name__)

PATH = "/ws/hosts/"
SUBPROTOCOL = Subprotocol("steersman.host.v1")
NO_SOCKS = (
    "{address} is behind a SOCKS proxy, which needs the package python-socks: pip install 'python-socks[asyncio]', or "
    "set no_proxy for this host."
)
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
# A connection that breaks without being closed is detected after the sum of both.
PING_INTERVAL_S = 5.0
PING_TIMEOUT_S = 10.0
# The pauses between attempts to connect double from the first to the longest. If a portal refuses, the pause is longer,
# because it would refuse again.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 4.0
REFUSED_PAUSE_S = 15.0
# If a connection lasted longer than this, the network works, and the pauses begin with the first one again.
GOOD_AFTER_S = 5.0
# Close codes by which a portal refuses this host: it violated the protocol, or the reason is a sentence.
REFUSING_CODES = frozenset({1002, 1009, *range(4400, 4500)}) - {4408}
NO_SUCH_RUN = 4404
TOO_MANY = 4429
TOO_MANY_PAUSE_S = 120.0
# How long `stop` waits for the thread. A lookup of a name or a request may take longer; the thread is a daemon.
STOP_TIMEOUT_S = CLOSE_TIMEOUT_S + 0.5
# Every connection that breaks is reported to the `Watcher`, so websockets does not print it too.
logging.getLogger("websockets.client").setLevel(logging.CRITICAL)


class _Loop(asyncio.SelectorEventLoop):
    """Looks up names on its own thread: the process could not end while a thread of an executor looks one up."""

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        return socket.getaddrinfo(host, port, family, type, proto, flags)


def _complete(loop: _Loop, main: Awaitable[None]) -> None:
    """Run `main` and then the end of all other tasks, and close the loop; as `asyncio.run` does with its own loop."""
    try:
        loop.run_until_complete(main)
    finally:
        if rest := asyncio.all_tasks(loop):
            for task in rest:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        loop.close()


class _Connect(connect):
    """Follows no redirect, as other requests to a portal."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


@asynccontextmanager
async def connected(login: Login, run: int, attempt: int) -> AsyncIterator[ClientConnection]:
    """A connection to a portal for an attempt. Raises `PortalError` if it cannot be opened."""
    address = login.address
    words = urlencode({"run": run, "attempt": attempt})
    try:
        connection = await _Connect(
            "ws" + address.removeprefix("http") + f"{PATH}?{words}",
            additional_headers={"Authorization": f"Bearer {login.token}", VERSION_HEADER: steersman.__version__},
            subprotocols=[SUBPROTOCOL],
            compression=None,
            max_size=LARGEST_MESSAGE_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
        )
    except InvalidStatus as error:
        said = said_in(bytes(error.response.body or b""))
        raise refusal_of(address, error.response.status_code, said) from error
    except ImportError as error:
        raise Refused(NO_SOCKS.format(address=address)) from error
    except (WebSocketException, OSError) as error:
        raise unreachable(address, error) from error
    async with connection:
        if connection.subprotocol != SUBPROTOCOL:
            raise Refused(not_a_portal(address))
        yield connection


def check_version(login: Login) -> None:
    """Raise `PortalError` if a portal refuses this version of the package, or WebSockets do not reach it.

    Call it on a thread that runs no event loop.
    """
    _complete(_Loop(), _check_version(login))


async def _check_version(login: Login) -> None:
    async with connected(login, 0, 0) as connection:
        try:
            await asyncio.wait_for(connection.recv(), OPEN_TIMEOUT_S)
        except ConnectionClosed as error:
            # It compares versions first. No run has the number 0.
            problem = _why_closed(login.address, error)
            if not isinstance(problem, Refused) or problem.status != NO_SUCH_RUN:
                raise problem from error
        except asyncio.TimeoutError as error:
            # Before Python 3.11 it is another class than the `TimeoutError` of sockets.
            raise unreachable(login.address, TimeoutError()) from error


def _why_closed(address: str, error: ConnectionClosed) -> PortalError:
    closed = error.rcvd
    if closed is not None and closed.code in REFUSING_CODES:
        return refusal_of(address, closed.code, closed.reason)
    return unreachable(address, error)


class Watcher(Protocol):
    """Is called on a thread of the link when the portal cannot be reached, and when it answers again."""

    def lost_portal(self, problem: PortalError) -> None: ...
    def reached_portal(self) -> None: ...


class _Connection:
    """One connection: what is to be sent on it. `send` may be called on any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()

    def send(self, data: bytes) -> None:
        with suppress(RuntimeError):  # the loop is closed: the link was stopped
            self._loop.call_soon_threadsafe(self._outgoing.put_nowait, data)

    async def write(self, to: ClientConnection) -> None:
        """Send on `to` until it breaks, which its reader notices too."""
        with suppress(WebSocketException, OSError):
            while True:
                await to.send(await self._outgoing.get())


class PortalLink:
    """A `steersman.messages.link.Link` to the record side of one attempt in a portal.

    `place` returns where the attempt is in the portal. It is called on the link's thread before each connection, may
    ask the portal, and raises `PortalError`. `arrived` is called when there is something to receive.
    """

    def __init__(self, login: Login, place: Callable[[], Place], watcher: Watcher, arrived: Callable[[], None]) -> None:
        self._login = login
        self._place = place
        self._watcher = watcher
        self._arrived = arrived
        # The messages that have arrived, in order. A connection in it marks the point at which it was opened.
        self._inbox: deque[FromRecord | _Connection] = deque()
        # The connection whose start was reported to the host side.
        self._current: _Connection | None = None
        self._loop = _Loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="portal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, message: FromHost) -> None:
        """Send a message on the connection that `receive` reported last. Without a connection, it is dropped."""
        if self._current is not None:
            self._current.send(encode(message))

    def receive(self) -> list[FromRecord]:
        """Return the messages that have arrived. Raises `LinkCut` at every new connection, also at the first."""
        found: list[FromRecord] = []
        while self._inbox:
            first = self._inbox[0]
            if isinstance(first, _Connection):
                if found:
                    break
                self._inbox.popleft()
                self._current = first
                raise LinkCut
            self._inbox.popleft()
            found.append(first)
        return found

    def stop(self) -> None:
        """Close the connection, and open no other; takes up to `STOP_TIMEOUT_S` if the portal does not answer."""
        with suppress(RuntimeError):  # the loop is closed: it has stopped already
            self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join(STOP_TIMEOUT_S)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        self._task = self._loop.create_task(self._follow())
        with suppress(asyncio.CancelledError):
            _complete(self._loop, self._task)

    async def _follow(self) -> None:
        """Connect again whenever a connection ends."""
        pause_s = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            problem = await self._connect_once()
            if time.monotonic() - began > GOOD_AFTER_S and not isinstance(problem, Refused):
                pause_s = FIRST_PAUSE_S
            self._watcher.lost_portal(problem)
            wait_s = pause_s
            if isinstance(problem, Refused):
                wait_s = TOO_MANY_PAUSE_S if problem.status == TOO_MANY else REFUSED_PAUSE_S
            # After a restart of the portal, not all hosts connect at the same time.
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _connect_once(self) -> PortalError:
        """Connect and exchange messages until the connection ends; return why it ended."""
        try:
            # It may block this thread: there is no connection meanwhile.
            place = self._place()
            async with connected(self._login, place.run, place.attempt) as websocket:
                return await self._converse(websocket)
        except PortalError as problem:
            return problem

    async def _converse(self, websocket: ClientConnection) -> PortalError:
        connection = _Connection()
        writer = asyncio.create_task(connection.write(websocket))
        self._put(connection)
        try:
            while True:
                data = await websocket.recv()
                if isinstance(data, str):
                    raise BadMessage("it is a text frame")
                self._put(decode(data))
                # Only after a message: a portal may accept a connection and then refuse with a reason.
                self._watcher.reached_portal()
        except ConnectionClosed as error:
            return _why_closed(self._login.address, error)
        except BadMessage as error:
            logger.error("a message of the portal cannot be read (%s): connecting again", error)
            return unreachable(self._login.address, error)
        finally:
            writer.cancel()

    def _put(self, item: FromRecord | _Connection) -> None:
        self._inbox.append(item)
        self._arrived()
