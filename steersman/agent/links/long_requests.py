"""A connection to a portal by plain HTTPS requests, for a proxy that lets no WebSocket through.

Both directions are streams of framed messages. A request sends or asks for a piece of a stream by its place, so that a
request whose answer was lost is sent again without effect. `docs/protocol.md` describes the requests.
"""

from __future__ import annotations

import secrets
import threading
import urllib.error
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from steersman.agent.links.connections import PATH, PROTOCOL, why_closed
from steersman.portal.logins import Login
from steersman.portal.requests import (
    BINARY,
    PortalError,
    Refused,
    Unreachable,
    answer_of,
    not_a_portal,
    refusal_of,
    said_in,
    text_of,
    unreachable,
)
from steersman.records.typed_json import Malformed, decode
from steersman.wire.framing import LARGEST_MESSAGE_BYTES, LARGEST_PIECE_BYTES, Frames, TooLarge, framed

TIMEOUT_S = 10.0
# The portal waits for messages for up to 20 s.
WAIT_TIMEOUT_S = 35.0
CLOSE_TIMEOUT_S = 1.0
# The pauses before a request is sent again. The portal keeps a link for 30 s without a request.
AGAIN_AFTER_S = (0.25, 1.0, 2.0)
# The pause before more is sent to a portal that has taken nothing.
FULL_PAUSE_S = 0.5
JSON = "application/json"
OUT_OF_PLACE, ENDED = 409, 410


@dataclass(frozen=True, slots=True)
class _Arrived:
    """How much of the stream of this host has arrived, in bytes."""

    arrived: int


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a link, with the code that would close a WebSocket."""

    code: int = 0
    error: str = ""


class _LinkEnded(Exception):
    """The portal has ended the link: it is not asked again."""

    def __init__(self, problem: PortalError) -> None:
        super().__init__(str(problem))
        self.problem = problem


class LongRequests:
    """A `Connection` for an attempt. `send` and `recv` are called on a thread each."""

    def __init__(self, login: Login, run: int, attempt: int) -> None:
        """Open a link. Raises `PortalError`."""
        self._login = login
        self._words: dict[str, Any] = {"run": run, "attempt": attempt, "link": secrets.token_hex(16)}
        self._sent = self._received = 0
        self._frames = Frames()
        self._messages: deque[bytes] = deque()
        self._closed = threading.Event()
        # Why nothing more can be sent.
        self._problem: PortalError | None = None
        self._ask("PUT", JSON, protocol=PROTOCOL)

    def send(self, data: bytes) -> None:
        rest = framed(data)
        try:
            while rest:
                piece = rest[:LARGEST_PIECE_BYTES]
                answered = self._ask("POST", JSON, piece, at=self._sent)
                taken = decode(_Arrived, answered).arrived - self._sent
                if not 0 <= taken <= len(piece):
                    problem = ConnectionError("the portal confirms more or fewer bytes than were sent")
                    raise unreachable(self._login.address, problem)
                if not taken:
                    self._closed.wait(FULL_PAUSE_S)
                self._sent += taken
                rest = rest[taken:]
        except Malformed as error:
            self._problem = Refused(not_a_portal(self._login.address))
            raise self._problem from error
        except PortalError as problem:
            self._problem = problem
            raise

    def recv(self) -> bytes:
        while not self._messages:
            data = self._ask("GET", BINARY, timeout_s=WAIT_TIMEOUT_S, at=self._received)
            if self._problem is not None:
                raise self._problem
            try:
                self._messages.extend(self._frames.take(data))
            except TooLarge as error:
                raise unreachable(self._login.address, error) from error
            self._received += len(data)
        return self._messages.popleft()

    def close(self) -> None:
        """End the link, which also ends a request that waits."""
        if not self._closed.is_set():
            self._closed.set()
            with suppress(PortalError, _LinkEnded):
                self._ask_once("DELETE", JSON, None, CLOSE_TIMEOUT_S, {})

    def _ask(
        self, method: str, kind: str, data: bytes | None = None, timeout_s: float = TIMEOUT_S, **words: Any
    ) -> bytes:
        """Return the answer to a request, which is sent again if there is none."""
        pauses = iter(AGAIN_AFTER_S)
        while True:
            if self._closed.is_set():
                raise unreachable(self._login.address, ConnectionError("the link was closed"))
            try:
                return self._ask_once(method, kind, data, timeout_s, words)
            except _LinkEnded as ended:
                raise ended.problem from ended
            except Unreachable:
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise
                self._closed.wait(pause_s)

    def _ask_once(self, method: str, kind: str, data: bytes | None, timeout_s: float, words: dict[str, Any]) -> bytes:
        address = self._login.address
        path = f"{PATH}?{urlencode(self._words | words)}"
        try:
            answered, found = answer_of(self._login, method, path, data, timeout_s, at_most=LARGEST_MESSAGE_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                said = text_of(error)
            if error.code in (OUT_OF_PLACE, ENDED):
                raise _LinkEnded(self._why_ended(said)) from error
            raise refusal_of(address, error.code, said_in(said)) from error
        if found != kind:
            raise Refused(not_a_portal(address))
        return answered

    def _why_ended(self, said: bytes) -> PortalError:
        try:
            end = decode(_End, said)
        except Malformed:
            end = _End()
        return why_closed(self._login.address, end.code, end.error)
