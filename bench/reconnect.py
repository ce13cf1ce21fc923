"""Measure the cost of many new viewers, and the time until 1,000 viewers have reconnected to a portal that was killed.

usage: python bench/reconnect.py

Daphne has one core; this program, with all viewers, has another. 500 viewers open their sockets by the token of a share
link; 500 are members with an account and a session each, and request a ticket over HTTP first. Then Daphne is killed
with SIGKILL and started again on the same port, while 50 events are stored. Each viewer reconnects with its last event,
after a random pause of up to 2 s, as the page does. Prints one JSON object as its last line:
cpu_ms_per_viewer         Daphne's CPU time per viewer while 500 connect at once by token
cpu_ms_per_viewer_ticket  the same for 500 that connect at once by ticket, including the request for the ticket
back_s                    time from the restart until the last of 1,000 viewers has caught up; null after a minute
back_cpu_s                Daphne's CPU time in back_s
restart_s                 time from the kill until the new Daphne accepts connections
handshakes_cut            sockets that a running portal closed before it greeted them
errors_5xx                responses with a status of 500 or more
viewers_wrong             viewers that did not receive each of the 50 events once and in order
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import websockets  # noqa: E402
from websockets.asyncio.client import ClientConnection, connect  # noqa: E402

from bench.support.processes import cpu_s  # noqa: E402
from tests.support.stack import Stack  # noqa: E402

BY_TOKEN = 500
BY_TICKET = 500
SERIES, COMMANDS, KNOBS = 40, 20, 8
MISSED_EVENTS = 50
LONGEST_PAUSE_S = 2.0
# Far longer than any step should take; after it, the bench fails.
GREETING_TIMEOUT_S = 60
CATCH_UP_TIMEOUT_S = 60
CSRF = "c" * 32
ERRORS = (OSError, websockets.WebSocketException, TimeoutError)


class Crowd:
    """The state that all viewers share: the address of the portal, whether it answers, and errors."""

    def __init__(self, stack: Stack, run_id: int) -> None:
        self.stack = stack
        self.run_id = run_id
        self.target_seq = 0
        self.answering = True
        self.handshakes_cut = 0
        self.errors_5xx = 0

    def note(self, error: Exception) -> None:
        """Count an error of a viewer, unless the portal was down."""
        if isinstance(error, websockets.InvalidStatus) and error.response.status_code >= 500:
            self.errors_5xx += 1
        elif self.answering and not isinstance(error, ConnectionRefusedError):
            self.handshakes_cut += 1
            print(f"cut: {error!r} after {error.__context__!r}", file=sys.stderr)


class CrowdViewer:
    """One viewer, which opens the run's socket by the token of a share link or by a ticket of its session."""

    def __init__(self, crowd: Crowd, token: str = "", session: str = "") -> None:
        self.crowd = crowd
        self.token = token
        self.session = session
        self.last_seq: int | None = None
        self.seqs: list[int] = []
        self.socket: ClientConnection | None = None
        self.caught_up_at = 0.0

    async def open(self) -> None:
        """Connect and read the greeting."""
        protocols = ["steersman.v1"]
        query = {} if self.last_seq is None else {"since": str(self.last_seq)}
        if self.token:
            query["token"] = self.token
        else:
            protocols.append(f"ticket.{await self._ticket()}")
        address = f"ws://127.0.0.1:{self.crowd.stack.port}/ws/runs/{self.crowd.run_id}/"
        words = "&".join(f"{name}={value}" for name, value in query.items())
        self.socket = await connect(
            f"{address}?{words}",
            subprotocols=protocols,  # type: ignore[arg-type]
            compression=None,
            open_timeout=GREETING_TIMEOUT_S,
            ping_interval=None,
        )
        async with asyncio.timeout(GREETING_TIMEOUT_S):
            hello = json.loads(await self.socket.recv())
        if self.last_seq is None:
            self.last_seq = int(hello["seq"])

    async def arrive(self) -> None:
        """Connect until the portal greets this viewer."""
        while True:
            try:
                await self.open()
                return
            except ERRORS as error:
                self.crowd.note(error)
                await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_S))

    async def come_back(self) -> None:
        """Wait until the socket closes, reconnect, and read the missed events."""
        assert self.socket is not None
        try:
            while True:
                await self.socket.recv()
        except websockets.ConnectionClosed:
            pass
        while not self.caught_up_at:
            await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_S))
            try:
                await self.open()
                await self._catch_up()
            except ERRORS as error:
                self.crowd.note(error)

    async def _catch_up(self) -> None:
        assert self.socket is not None and self.last_seq is not None
        while self.last_seq < self.crowd.target_seq:
            frame = json.loads(await self.socket.recv())
            for message in frame if isinstance(frame, list) else [frame]:
                if "at" in message:
                    self.last_seq = int(message["seq"])
                    self.seqs += range(message.get("first_seq", self.last_seq), self.last_seq + 1)
        self.caught_up_at = time.monotonic()

    async def _ticket(self) -> str:
        """Request a ticket as the page does, over a separate connection."""
        body = json.dumps({"run": self.crowd.run_id})
        head = (
            "POST /api/tickets/ HTTP/1.1",
            f"Host: 127.0.0.1:{self.crowd.stack.port}",
            f"Cookie: steersman_session={self.session}; steersman_csrf={CSRF}",
            f"X-CSRFToken: {CSRF}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", self.crowd.stack.port)
        try:
            writer.write("\r\n".join((*head, "", body)).encode())
            async with asyncio.timeout(GREETING_TIMEOUT_S):
                answer = (await reader.read()).decode()
        finally:
            writer.close()
        status = int(answer.split()[1]) if answer else 0
        if status != 200:
            self.crowd.errors_5xx += status >= 500
            raise ConnectionAbortedError(f"no ticket: {answer[:200]}")
        return str(json.loads(answer.split("\r\n\r\n", 1)[1])["ticket"])


def start_web(stack: Stack, core: int) -> None:
    """Start Daphne on one core, and wait until it answers."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        stack.start_web()
    finally:
        os.sched_setaffinity(0, own)


async def cpu_ms_of(stack: Stack, viewers: Sequence[CrowdViewer]) -> float:
    """Connect viewers at once and return the portal's CPU time per viewer."""
    assert stack.web is not None
    before = cpu_s(stack.web.pid)
    await asyncio.gather(*(viewer.arrive() for viewer in viewers))
    return (cpu_s(stack.web.pid) - before) * 1000 / len(viewers)


async def listening(stack: Stack) -> None:
    """Wait until the portal accepts connections. Its pages may answer later, because all viewers connect at once."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", stack.port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return


async def restart(crowd: Crowd, core: int, store: Callable[[], int]) -> tuple[float, float]:
    """Kill the portal, store events, and start it again; return the times of the kill and of the first connection."""
    stack = crowd.stack
    assert stack.web is not None
    crowd.answering = False
    killed_at = time.monotonic()
    stack.web.send_signal(signal.SIGKILL)
    stack.web.wait()
    crowd.target_seq = await asyncio.to_thread(store)
    starting = asyncio.create_task(asyncio.to_thread(start_web, stack, core))
    await listening(stack)
    crowd.answering = True
    answers_at = time.monotonic()
    await starting
    return killed_at, answers_at


async def measure(crowd: Crowd, token: str, sessions: list[str], core: int, store: Callable[[], int]) -> dict[str, Any]:
    by_token = [CrowdViewer(crowd, token=token) for _ in range(BY_TOKEN)]
    by_ticket = [CrowdViewer(crowd, session=session) for session in sessions]
    viewers = by_token + by_ticket
    print(f"{BY_TOKEN} viewers by token", file=sys.stderr)
    token_ms = await cpu_ms_of(crowd.stack, by_token)
    print(f"{token_ms:.2f} ms each; {BY_TICKET} viewers by ticket", file=sys.stderr)
    ticket_ms = await cpu_ms_of(crowd.stack, by_ticket)
    print(f"{ticket_ms:.2f} ms each; the portal is killed", file=sys.stderr)
    crowd.target_seq = sys.maxsize
    coming: list[Coroutine[Any, Any, None]] = [viewer.come_back() for viewer in viewers]
    returning = asyncio.gather(*coming)
    killed_at, answers_at = await restart(crowd, core, store)
    try:
        async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
            await returning
    except TimeoutError:
        print("not all came back", file=sys.stderr)
    assert crowd.stack.web is not None
    back_cpu_s = cpu_s(crowd.stack.web.pid)
    print(f"load of the machine {os.getloadavg()}", file=sys.stderr)
    expected = list(range(crowd.target_seq - MISSED_EVENTS + 1, crowd.target_seq + 1))
    for viewer in viewers:
        assert viewer.socket is not None
        viewer.socket.transport.abort()
    moments = [viewer.caught_up_at for viewer in viewers]
    return {
        "cpu_ms_per_viewer": round(token_ms, 2),
        "cpu_ms_per_viewer_ticket": round(ticket_ms, 2),
        "back_s": round(max(moments) - answers_at, 2) if all(moments) else None,
        "back_cpu_s": round(back_cpu_s, 2),
        "restart_s": round(answers_at - killed_at, 2),
        "handshakes_cut": crowd.handshakes_cut,
        "errors_5xx": crowd.errors_5xx,
        "viewers_wrong": sum(viewer.seqs != expected for viewer in viewers),
        "viewers": len(viewers),
    }


def seed() -> tuple[int, str, list[str]]:
    """Create a project with members and sessions for viewers by ticket; return run, share link's token and sessions."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.utils import timezone

    from runs.access.tokens import create_token
    from runs.models import Command, Membership, Run, Series
    from tests.support.stack import seed_project

    project = seed_project()
    knobs = [
        {"name": f"knob_{place}", "kind": "float", "default": 0.1, "minimum": 0.0, "maximum": 1.0, "value": 0.1,
         "effective": 0.1, "help": "what it changes"} for place in range(KNOBS)
    ]  # fmt: skip
    run = Run.objects.create(project=project, name="crowd", state="running", attempt=1, knobs=knobs)
    Series.objects.bulk_create(
        Series(run=run, name=f"train/series_{place}", last_step=1, last_time=1.0, last_value=0.5)
        for place in range(SERIES)
    )
    operator = User.objects.get(username="operator")
    for _ in range(COMMANDS):
        Command.objects.create(run=run, kind="note", author=operator, author_name="operator", sent_at=timezone.now())
    _, token = create_token(operator, project, "share", name="hall", run=run)
    sessions = []
    for place in range(BY_TICKET):
        user = User.objects.create(username=f"member{place}")
        Membership.objects.create(project=project, user=user, role="viewer")
        store = SessionStore()
        store[SESSION_KEY] = str(user.pk)
        store[BACKEND_SESSION_KEY] = "runs.access.logins.PasswordBackend"
        store[HASH_SESSION_KEY] = user.get_session_auth_hash()
        store.create()
        sessions.append(str(store.session_key))
    return run.pk, token, sessions


def store_events(run_id: int) -> int:
    """Store the events that the viewers miss, one after the other, and return the number of the last."""
    from runs.protocol.events import Block
    from runs.recording import feed
    from tests.support.stored_points import metrics_event

    last = 0
    for step in range(1, MISSED_EVENTS + 1):
        values: dict[str, list[float | None]] = {f"train/series_{place}": [1 / step] for place in range(3)}
        last = feed.append(run_id, metrics_event([Block(steps=[step], times=[float(step)], values=values)]))
    return last


def main() -> int:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("two cores are needed: one for the portal, one for the viewers")
    os.sched_setaffinity(0, {cores[1]})
    with Stack() as stack:
        print("starting embedded server and Daphne", file=sys.stderr)
        stack.migrate()
        stack.use()
        run_id, token, sessions = seed()
        stack.start_redis()
        start_web(stack, cores[0])
        crowd = Crowd(stack, run_id)
        found = asyncio.run(measure(crowd, token, sessions, cores[0], lambda: store_events(run_id)))
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
