"""A link over one outbound WebSocket to a portal. Threads of its own open, read and write it: no call blocks."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect
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
CLOSED = None


@contextmanager
def connected(login: Login, run: int, attempt: int) -> Iterator[ClientConnection]:
    """A connection to a portal for an attempt. Raises `PortalError` if it cannot be opened."""
    address = login.address
    words = urlencode({"run": run, "attempt": attempt})
    try:
        socket = connect(
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
    except (WebSocketException, OSError) as error:
        raise unreachable(address, error) from error
    with socket:
        if socket.subprotocol != SUBPROTOCOL:
            raise Refused(not_a_portal(address))
        yield socket


def check_version(login: Login) -> None:
    """Raise `PortalError` if a portal refuses this version of the package, or WebSockets do not reach it."""
    with connected(login, 0, 0) as socket:
        try:
            socket.recv(OPEN_TIMEOUT_S)
        except ConnectionClosed as error:
            # It compares versions first. No run has the number 0.
            problem = _why_closed(login.address, error)
            if not isinstance(problem, Refused) or problem.status != NO_SUCH_RUN:
                raise problem from error
        except TimeoutError as error:
            raise unreachable(login.address, error) from error


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
    """One connection: what is to be sent on it, and the thread that sends it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="portal writer", daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        self._outgoing.put(data)

    def end(self) -> None:
        self._outgoing.put(CLOSED)

    def _write(self) -> None:
        try:
            while (data := self._outgoing.get()) is not CLOSED:
                self._socket.send(data)
        except (WebSocketException, OSError):
            return  # the reader sees it too


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
        self._socket: ClientConnection | None = None
        self._stopped = threading.Event()
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
        """Close the connection, and open no other; takes `CLOSE_TIMEOUT_S` if the portal does not answer."""
        self._stopped.set()
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopped.is_set():
            began = time.monotonic()
            problem = self._connect_once()
            if self._stopped.is_set():
                return
            if time.monotonic() - began > GOOD_AFTER_S and not isinstance(problem, Refused):
                pause_s = FIRST_PAUSE_S
            self._watcher.lost_portal(problem)
            wait_s = pause_s
            if isinstance(problem, Refused):
                wait_s = TOO_MANY_PAUSE_S if problem.status == TOO_MANY else REFUSED_PAUSE_S
            # After a restart of the portal, not all hosts connect at the same time.
            self._stopped.wait(wait_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _connect_once(self) -> PortalError:
        """Connect and exchange messages until the connection ends; return why it ended."""
        try:
            place = self._place()
            with connected(self._login, place.run, place.attempt) as socket:
                self._socket = socket
                return self._converse(socket)
        except PortalError as problem:
            return problem

    def _converse(self, socket: ClientConnection) -> PortalError:
        connection = _Connection(socket)
        self._put(connection)
        try:
            while True:
                data = socket.recv()
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
            connection.end()

    def _put(self, item: FromRecord | _Connection) -> None:
        self._inbox.append(item)
        self._arrived()
