"""A link to a portal, over a WebSocket or long requests. Threads of its own open, read and write it: no call blocks."""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from steersman.agent.links.connections import AUTO, HTTPS, WEBSOCKET, Connection, HandshakeFailed, wanted_link
from steersman.agent.links.long_requests import LongRequests
from steersman.agent.links.websocket import OPEN_TIMEOUT_S, WebSocket
from steersman.messages.link import FromHost, FromRecord, LinkCut
from steersman.portal.logins import Login
from steersman.portal.requests import PortalError, Refused, unreachable
from steersman.starting.messages import Place
from steersman.wire.codec import BadMessage, decode, encode

logger = logging.getLogger(__name__)

# The pauses between attempts to connect double from the first to the longest. If a portal refuses, the pause is longer,
# because it would refuse again.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 4.0
REFUSED_PAUSE_S = 15.0
# If a connection lasted longer than this, the network works, and the pauses begin with the first one again.
GOOD_AFTER_S = 5.0
NO_SUCH_RUN = 4404
TOO_MANY = 4429
TOO_MANY_PAUSE_S = 120.0
# So many WebSockets in a row that are cut before their first message are not an accident.
MOST_CUTS = 3
# How long requests are used before a WebSocket is tried again.
REQUESTS_FOR_S = 600.0
CLOSED = None


def check_version(login: Login) -> str:
    """Raise `PortalError` if a portal refuses this version of the package, or cannot be reached.

    Return a sentence if a proxy lets no WebSocket through and long requests will be used instead, "" otherwise.
    """
    wanted = wanted_link(os.environ)
    if wanted == HTTPS:
        _check_requests(login)
        return ""
    try:
        return _check_websocket(login)
    except HandshakeFailed as failed:
        if wanted == WEBSOCKET or not failed.is_certain:
            raise failed.problem from failed
        try:
            _check_requests(login)
        except PortalError as error:
            # What is wrong with the WebSocket is wrong with the address.
            raise failed.problem from error
        return no_websocket(login.address, str(failed))


def _check_websocket(login: Login) -> str:
    socket = WebSocket(login, 0, 0)
    try:
        socket.recv(OPEN_TIMEOUT_S)
    except TimeoutError as error:
        raise unreachable(login.address, error) from error
    except PortalError as problem:
        _expect_no_run(problem)
    finally:
        socket.close()
    return ""


def _check_requests(login: Login) -> None:
    try:
        LongRequests(login, 0, 0).close()
    except PortalError as problem:
        _expect_no_run(problem)


def _expect_no_run(problem: PortalError) -> None:
    """Raise a problem, unless it is that no run has the number 0: the portal compares versions first."""
    if not isinstance(problem, Refused) or problem.status != NO_SUCH_RUN:
        raise problem


def no_websocket(address: str, reason: str) -> str:
    """Return the sentence about a proxy that lets no WebSocket through."""
    return (
        f"No WebSocket reaches {address} ({reason}), perhaps because of a proxy. Long HTTPS requests are used instead: "
        "the page of the run is updated twice per second."
    )


class Watcher(Protocol):
    """Is called on a thread of the link when the portal cannot be reached, and when it answers again."""

    def lost_portal(self, problem: PortalError) -> None: ...
    def reached_portal(self) -> None: ...
    def say(self, text: str) -> None: ...


class _Writer:
    """One connection: what is to be sent on it, and the thread that sends it."""

    def __init__(self, socket: Connection) -> None:
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
        except PortalError:
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
        self._inbox: deque[FromRecord | _Writer] = deque()
        # The connection whose start was reported to the host side.
        self._current: _Writer | None = None
        self._socket: Connection | None = None
        # How many WebSockets in a row were cut before their first message, and until when none is tried.
        self._cuts = 0
        self._requests_until = 0.0
        self._has_told = False
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
            if isinstance(first, _Writer):
                if found:
                    break
                self._inbox.popleft()
                self._current = first
                raise LinkCut
            self._inbox.popleft()
            found.append(first)
        return found

    def stop(self) -> None:
        """Close the connection, and open no other; takes a second if the portal does not answer."""
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
            socket = self._open(place)
        except PortalError as problem:
            return problem
        self._socket = socket
        try:
            return self._exchange(socket)
        finally:
            socket.close()

    def _open(self, place: Place) -> Connection:
        """Return a new connection. Raises `PortalError`."""
        wanted = wanted_link(os.environ)
        if wanted == HTTPS or (wanted == AUTO and time.monotonic() < self._requests_until):
            return LongRequests(self._login, place.run, place.attempt)
        try:
            return WebSocket(self._login, place.run, place.attempt)
        except HandshakeFailed as failed:
            self._cuts += 1
            if wanted == WEBSOCKET or not (failed.is_certain or self._cuts >= MOST_CUTS):
                raise failed.problem from failed
            return self._open_requests(place, failed)

    def _open_requests(self, place: Place, failed: HandshakeFailed) -> Connection:
        try:
            opened = LongRequests(self._login, place.run, place.attempt)
        except PortalError as error:
            # The portal cannot be reached at all.
            raise failed.problem from error
        self._requests_until = time.monotonic() + REQUESTS_FOR_S
        if not self._has_told:
            self._has_told = True
            self._watcher.say(no_websocket(self._login.address, str(failed)))
        return opened

    def _exchange(self, socket: Connection) -> PortalError:
        connection = _Writer(socket)
        self._put(connection)
        try:
            while True:
                self._put(decode(socket.recv()))
                self._cuts = 0
                # Only after a message: a portal may accept a connection and then refuse with a reason.
                self._watcher.reached_portal()
                if isinstance(socket, LongRequests):
                    self._try_websocket(socket)
        except HandshakeFailed as failed:
            self._cuts += 1
            return failed.problem
        except PortalError as problem:
            return problem
        except BadMessage as error:
            logger.error("a message of the portal cannot be read (%s): connecting again", error)
            return unreachable(self._login.address, error)
        finally:
            connection.end()

    def _try_websocket(self, requests: LongRequests) -> None:
        """Check from time to time whether WebSockets reach the portal; end the link of requests if they do."""
        if time.monotonic() < self._requests_until or wanted_link(os.environ) != AUTO:
            return
        self._requests_until = time.monotonic() + REQUESTS_FOR_S

        def look() -> None:
            try:
                _check_websocket(self._login)
            except (PortalError, HandshakeFailed):
                return
            self._requests_until = 0.0
            requests.close()

        threading.Thread(target=look, name="portal websocket", daemon=True).start()

    def _put(self, item: FromRecord | _Writer) -> None:
        self._inbox.append(item)
        self._arrived()
