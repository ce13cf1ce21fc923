"""One outbound WebSocket to a portal."""

from __future__ import annotations

from contextlib import ExitStack
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, ProxyError, WebSocketException
from websockets.sync.client import connect
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
# A way that is broken without a word is noticed after both together.
PING_INTERVAL_S = 5.0
PING_TIMEOUT_S = 10.0


class WebSocket:
    """A `Connection` for an attempt."""

    def __init__(self, login: Login, run: int, attempt: int) -> None:
        """Connect. Raises `HandshakeFailed`, and `PortalError` if nothing answers."""
        self._address = address = login.address
        words = urlencode({"run": run, "attempt": attempt})
        # Whether the portal has sent anything.
        self._has_received = False
        self._ending = ExitStack()
        try:
            opening = connect(
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
            self._socket = self._ending.enter_context(opening)
        except InvalidStatus as error:
            status = error.response.status_code
            problem = refusal_of(address, status, said_in(bytes(error.response.body or b"")))
            raise HandshakeFailed(problem, f"status {status}", is_certain=status not in PASSING) from error
        except ProxyError as error:
            raise unreachable(address, error) from error
        except (InvalidHandshake, ConnectionResetError, EOFError) as error:
            reason = str(error) or "the connection was cut"
            raise HandshakeFailed(unreachable(address, error), reason, is_certain=False) from error
        except (WebSocketException, OSError) as error:
            raise unreachable(address, error) from error
        if self._socket.subprotocol != PROTOCOL:
            self.close()
            raise Refused(not_a_portal(address))

    def send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except (WebSocketException, OSError) as error:
            raise unreachable(self._address, error) from error

    def recv(self, timeout: float | None = None) -> bytes:
        """Return the next message. Raises `TimeoutError` after `timeout` seconds, and `HandshakeFailed` if the
        connection was cut before anything came over it."""
        try:
            data = self._socket.recv(timeout)
        except ConnectionClosed as error:
            if error.rcvd is not None:
                raise why_closed(self._address, error.rcvd.code, error.rcvd.reason) from error
            problem = unreachable(self._address, error)
            if self._has_received:
                raise problem from error
            raise HandshakeFailed(problem, "the connection was cut", is_certain=False) from error
        self._has_received = True
        return data.encode() if isinstance(data, str) else data

    def close(self) -> None:
        self._ending.close()
