"""One outbound WebSocket to a portal."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, ProxyError, WebSocketException
from websockets.typing import Subprotocol

import steersman
from steersman.agent.links.connections import PATH, PROTOCOL, HandshakeFailed, why_closed
from steersman.portal.logins import Login
from steersman.portal.requests import (
    PASSING,
    VERSION_HEADER,
    Refused,
    not_a_portal,
    refusal_of,
    said_in,
    unreachable,
)
from steersman.wire.framing import LARGEST_MESSAGE_BYTES

OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
# A connection that breaks without being closed is detected after the sum of both.
PING_INTERVAL_S = 5.0
PING_TIMEOUT_S = 10.0
NO_SOCKS = (
    "{address} is behind a SOCKS proxy, which needs the package python-socks: pip install 'python-socks[asyncio]', or "
    "set no_proxy for this host."
)
# Errors of a connection are raised, so websockets does not print them too.
logging.getLogger("websockets.client").setLevel(logging.CRITICAL)

Result = TypeVar("Result")


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

    def run(self) -> None:
        """Run until `stop`, then cancel what still runs, and close the loop."""
        self.run_forever()
        if rest := asyncio.all_tasks(self):
            for task in rest:
                task.cancel()
            self.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        self.close()


class _Connect(connect):
    """Follows no redirect, as other requests to a portal."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class WebSocket:
    """A `Connection` for an attempt. Its methods may be called on several threads at once.

    An event loop on a thread of its own reads and writes. With a thread to read and another one to write, a connection
    with TLS can hang or be corrupted: OpenSSL allows only one thread at a time to use a connection
    (https://docs.openssl.org/master/man7/openssl-threads/).
    """

    def __init__(self, login: Login, run: int, attempt: int) -> None:
        """Connect. Raises `HandshakeFailed`, and `PortalError` if nothing answers."""
        self._address = login.address
        # Whether the portal has sent anything.
        self._has_received = False
        self._closing = threading.Lock()
        self._loop = _Loop()
        threading.Thread(target=self._loop.run, name="portal websocket", daemon=True).start()
        try:
            self._socket = self._open(login, run, attempt)
        except BaseException:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise
        if self._socket.subprotocol != PROTOCOL:
            self.close()
            raise Refused(not_a_portal(self._address))

    def send(self, data: bytes) -> None:
        try:
            self._result(self._socket.send(data))
        except (WebSocketException, OSError) as error:
            raise unreachable(self._address, error) from error

    def recv(self, timeout: float | None = None) -> bytes:
        """Return the next message. Raises `TimeoutError` after `timeout` seconds, and `HandshakeFailed` if the
        connection was cut before anything came over it."""
        try:
            data = self._result(self._socket.recv(), timeout)
        except ConnectionClosed as error:
            if error.rcvd is not None:
                raise why_closed(self._address, error.rcvd.code, error.rcvd.reason) from error
            problem = unreachable(self._address, error)
            if self._has_received:
                raise problem from error
            raise HandshakeFailed(problem, "the connection was cut", is_certain=False) from error
        except ConnectionError as error:
            raise unreachable(self._address, error) from error
        self._has_received = True
        return data.encode() if isinstance(data, str) else data

    def close(self) -> None:
        """Close the connection; takes up to `CLOSE_TIMEOUT_S` if the portal does not answer."""
        if not self._closing.acquire(blocking=False):
            return
        with suppress(WebSocketException, OSError):
            self._result(self._socket.close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _open(self, login: Login, run: int, attempt: int) -> ClientConnection:
        address = login.address
        words = urlencode({"run": run, "attempt": attempt})

        async def opened() -> ClientConnection:
            return await _Connect(
                "ws" + address.removeprefix("http") + f"{PATH}?{words}",
                additional_headers={"Authorization": f"Bearer {login.token}", VERSION_HEADER: steersman.__version__},
                subprotocols=[Subprotocol(PROTOCOL)],
                compression=None,
                max_size=LARGEST_MESSAGE_BYTES,
                open_timeout=OPEN_TIMEOUT_S,
                ping_interval=PING_INTERVAL_S,
                ping_timeout=PING_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
            )

        try:
            return self._result(opened())
        except InvalidStatus as error:
            status = error.response.status_code
            problem = refusal_of(address, status, said_in(bytes(error.response.body or b"")))
            raise HandshakeFailed(problem, f"status {status}", is_certain=status not in PASSING) from error
        except ImportError as error:
            raise Refused(NO_SOCKS.format(address=address)) from error
        except ProxyError as error:
            raise unreachable(address, error) from error
        except (InvalidHandshake, ConnectionResetError, EOFError) as error:
            reason = str(error) or "the connection was cut"
            raise HandshakeFailed(unreachable(address, error), reason, is_certain=False) from error
        except (WebSocketException, OSError) as error:
            raise unreachable(address, error) from error

    def _result(self, work: Coroutine[Any, Any, Result], timeout: float | None = None) -> Result:
        """Return the result of `work` on the thread of the loop. Raises `TimeoutError`, and `ConnectionError` after
        `close`."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise ConnectionError("the connection was closed") from error
        try:
            return future.result(timeout)
        except CancelledError as error:
            raise ConnectionError("the connection was closed") from error
        except FutureTimeout as error:
            # Before Python 3.11 it is another class than `TimeoutError`. The handshake may have raised it too.
            future.cancel()
            raise TimeoutError(str(error)) from error
