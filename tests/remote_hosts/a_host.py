"""A training host that is not ours: opens runs by the API and speaks the wire over a WebSocket."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import steersman
from steersman.messages.link import FromHost, FromRecord
from steersman.messages.reports import Attach, Attached, Position, Report, Stored
from steersman.records.kinds import PointRecord
from steersman.records.point_blocks import in_blocks
from steersman.wire.codec import decode, encode
from tests.support.stack import Stack, wait_for

PROTOCOL = "steersman.host.v1"
LAUNCH = {"key": "job 7", "start": "0", "host": "gpu7", "boot_id": "b", "pid": 42, "command_line": ["train.py"]}


@dataclass(frozen=True)
class Opened:
    """What the API answers."""

    run: int
    attempt: int


def train_token(stack: Stack, user: str = "operator", scope: str = "train") -> str:
    made = stack.manage("create_token", "--project", "lab", "--user", user, "--scope", scope)
    return made.stdout.strip()


def open_run(stack: Stack, token: str, **fields: Any) -> Opened:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    asked = urllib.request.Request(f"{stack.address}/api/runs/", json.dumps(LAUNCH | fields).encode(), headers)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        found = json.load(answer)
    return Opened(found["run"], found["attempt"])


def socket_of(
    stack: Stack,
    token: str,
    query: str,
    version: str = steersman.__version__,
    protocol: str = PROTOCOL,
    port: int | None = None,
) -> ClientConnection:
    """Connect to the portal, or to a `port` of the process that records."""
    headers = {"Steersman-Version": version} if version else {}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    return connect(
        f"ws://127.0.0.1:{port or stack.port}/ws/hosts/?{query}",
        subprotocols=[protocol],  # type: ignore[list-item]
        additional_headers=headers,
        compression=None,
        open_timeout=60,
        max_size=None,
    )


def patient_socket_of(stack: Stack, token: str, opened: Opened) -> ClientConnection:
    """Connect once the portal and the process that records are there."""

    def look() -> ClientConnection | None:
        try:
            return socket_of(stack, token, f"run={opened.run}&attempt={opened.attempt}")
        except Exception:  # refused, 503, cut: not there yet
            return None

    return wait_for(look, "a connection of a training host", timeout_s=60)


def say(socket: ClientConnection, message: FromHost) -> None:
    socket.send(encode(message))


def hear(socket: ClientConnection, kind: type) -> Any:
    """Return the next message of a kind; others are passed over."""
    while True:
        found: FromRecord = decode(bytes(socket.recv(timeout=60)))  # type: ignore[arg-type]
        if isinstance(found, kind):
            return found


def attach(socket: ClientConnection, token: str = "one", posted: Sequence[str] = ()) -> Attached:
    say(socket, Attach(token, posted))
    found: Attached = hear(socket, Attached)
    return found


def points(attached: Attached, number: int, steps: Sequence[int], **fields: Any) -> Report:
    """Return a report of points, as if each took 100 bytes of a journal."""
    begin, end = Position(0, 100 * (steps[0] - 1), steps[0] - 1), Position(0, 100 * steps[-1], steps[-1])
    records = [PointRecord(step=step, number=step - 1, time=1.7e9 + step, values={"loss": 1 / step}) for step in steps]
    of_journal = {"begin": {0: begin}, "end": {0: end}, "records": in_blocks([*records, *fields.pop("records", ())])}
    return Report(attached.session, number, **of_journal, **fields)


def report(socket: ClientConnection, message: Report) -> Stored:
    say(socket, message)
    found: Stored = hear(socket, Stored)
    return found


def closed(socket: ClientConnection) -> tuple[int, str]:
    """Return code and reason with which the portal closes a connection."""
    try:
        while True:
            socket.recv(timeout=60)
    except ConnectionClosed as end:
        assert end.rcvd is not None, "the connection was cut without a close frame"
        return end.rcvd.code, end.rcvd.reason
