"""Every close code of docs/protocol.md from the real server, received by a third-party client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from runs.live.consumers import MALFORMED_LIMIT
from runs.protocol.messages import CLOSE_CODES
from tests.support.stack import Stack, create_run, rows, seed_stack
from tests.support.watcher import close_code_of, ticket_of

# This portal fails on purpose if the name of a run requests it, because nothing else causes these codes.
FAULTS = """
from django.db import OperationalError
from runs.live import greeting, handshake, outbox
found = greeting.find
def find(run_id):
    got = found(run_id)
    if got.run.name == "ungreeted":
        raise RuntimeError("no greeting, on purpose")
    return got
greeting.find = find
def spend(value):
    raise OperationalError("database is locked")
handshake.spend_ticket = spend
outbox.LARGEST_UNACKED_FRAMES = 1
put = outbox.Outbox.put
def put_or_fail(self, frame):
    if "fail on purpose" in frame.text:
        raise ValueError("an event that cannot be sent")
    put(self, frame)
outbox.Outbox.put = put_or_fail
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(STEERSMAN_SOCKETS_PER_USER="3") as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.start_web(FAULTS)
        yield stack


@pytest.fixture(scope="module")
def token(stack: Stack) -> str:
    return stack.manage(
        "create_token", "--project", "lab", "--user", "operator", "--scope", "command", check=True
    ).stdout.strip()


def socket_of(stack: Stack, run: int, token: str) -> ClientConnection:
    address = f"{stack.address.replace('http', 'ws')}/ws/runs/{run}/"
    return connect(address, additional_headers={"Authorization": f"Bearer {token}"}, compression=None)


def append(stack: Stack, run: int, *texts: str) -> None:
    events = ", ".join(f"LogWritten(attempt=1, lines=[LogLine(text={text!r})])" for text in texts)
    imports = "from runs.recording import feed; from runs.protocol.events import LogLine, LogWritten"
    stack.manage("shell", "-v", "0", "-c", f"{imports}; feed.append({run}, {events})")


def test_each_code_arrives(stack: Stack, token: str) -> None:
    seen: set[int] = set()

    def expect(code: int, socket: ClientConnection) -> None:
        assert close_code_of(socket, 30) == code
        seen.add(code)

    run = create_run(stack, "run", state="running", attempt=1)
    with socket_of(stack, run, token) as socket:
        socket.recv(timeout=60)
        with suppress(ConnectionClosed):
            socket.send("x" * (64 * 1024 + 1))
        expect(1009, socket)
    with socket_of(stack, run, token) as socket:
        socket.recv(timeout=60)
        # The portal may close at the header of the second frame, before everything is sent.
        with suppress(ConnectionClosed):
            socket.send([b"x" * 40_000, b"x" * 40_000])
        expect(1009, socket)
    with socket_of(stack, run, token) as socket:
        socket.send(b"\xff\xfe", text=True)
        expect(1007, socket)
    with socket_of(stack, run, token) as socket:
        socket.recv(timeout=60)
        # A masked text frame with a reserved bit.
        socket.socket.sendall(b"\xf1\x80\x00\x00\x00\x00")
        expect(1002, socket)
    with socket_of(stack, create_run(stack, "ungreeted"), token) as socket:
        expect(1011, socket)
    with socket_of(stack, run, token) as socket:
        socket.recv(timeout=60)
        append(stack, run, "fail on purpose")
        expect(1011, socket)
    with socket_of(stack, run, token) as socket:
        socket.recv(timeout=60)
        for _ in range(MALFORMED_LIMIT):
            socket.send("{")
        expect(4400, socket)
    with connect(
        f"{stack.address.replace('http', 'ws')}/ws/runs/{run}/?token={ticket_of(stack, run, token)}"
    ) as socket:
        expect(1013, socket)
    with socket_of(stack, run, "invented") as socket:
        expect(4401, socket)
    with socket_of(stack, 999, token) as socket:
        expect(4404, socket)
    with socket_of(stack, run, token) as socket:
        socket.recv(timeout=60)
        socket.send('{"kind": "ack", "seq": 0}')
        append(stack, run, "one", "two", "three")
        expect(4408, socket)
    member = "FROM auth_user WHERE username = 'operator'"
    with ExitStack() as stay_open:
        open_ones = [stay_open.enter_context(socket_of(stack, run, token)) for _ in range(3)]
        for socket in open_ones:
            socket.recv(timeout=60)
        with socket_of(stack, run, token) as socket:
            expect(4429, socket)
        rows(stack, f"UPDATE runs_membership SET role = 'viewer' WHERE user_id = (SELECT id {member})")
        expect(4409, open_ones[0])
    with socket_of(stack, run, token) as socket:
        socket.recv(timeout=60)
        rows(stack, f"DELETE FROM runs_membership WHERE user_id = (SELECT id {member})")
        expect(4403, socket)
    rows(stack, f"INSERT INTO runs_membership (project_id, user_id, role) SELECT 1, id, 'operator' {member}")
    assert stack.web is not None
    with socket_of(stack, run, token) as socket:
        socket.recv(timeout=60)
        stack.web.terminate()
        expect(1012, socket)
    assert seen == set(CLOSE_CODES)
    log = (stack.folder / "web.log").read_text()
    assert log.count("ValueError: an event that cannot be sent") == 1 and "Traceback" in log
