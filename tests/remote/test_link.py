"""The link of a host side to a portal: a WebSocket that is made again whenever it breaks, and blocks nobody."""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection as AsyncServerConnection
from websockets.asyncio.server import serve as serve_async
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

import steersman
from steersman.agent.links.connections import PATH, PROTOCOL
from steersman.agent.remote.portal_link import PortalLink
from steersman.messages.ended import Ended, Fenced
from steersman.messages.link import FromRecord, LinkCut
from steersman.messages.reports import Attach
from steersman.portal.logins import Login
from steersman.portal.requests import PortalError, Refused, Unreachable
from steersman.starting.messages import Place
from steersman.wire.codec import decode, encode
from tests.support.stack import wait_for
from tests.support.tls.certificate import write_certificate

PATIENCE_S = 60.0
MANY = 1000
ANSWER = Fenced("another host side follows it", overtaken=False)


@dataclass
class Watcher:
    problems: list[PortalError] = field(default_factory=list)
    there: int = 0
    said: list[str] = field(default_factory=list)

    def lost_portal(self, problem: PortalError) -> None:
        self.problems.append(problem)

    def reached_portal(self) -> None:
        self.there += 1

    def say(self, text: str) -> None:
        self.said.append(text)


@contextmanager
def linked(
    handler: Callable[[ServerConnection], None],
    refuse: Callable[[ServerConnection, Request], Response | None] | None = None,
    subprotocol: str = PROTOCOL,
    place: Callable[[], Place] = lambda: Place(7, 2),
) -> Iterator[tuple[PortalLink, Watcher]]:
    """A link to a server that `handler` answers on."""
    with serve(
        handler, "127.0.0.1", 0, subprotocols=[subprotocol], process_request=refuse, max_size=None  # type: ignore[list-item]
    ) as server:  # fmt: skip
        threading.Thread(target=server.serve_forever, daemon=True).start()
        watcher = Watcher()
        port = server.socket.getsockname()[1]
        link = PortalLink(Login(f"http://127.0.0.1:{port}", "stm_x"), place, watcher, lambda: None)
        link.start()
        try:
            yield link, watcher
        finally:
            link.stop()


def received(link: PortalLink) -> list[FromRecord]:
    return wait_for(link.receive, "a message", PATIENCE_S)


def await_cut(link: PortalLink) -> None:
    def is_cut() -> bool:
        try:
            link.receive()
        except LinkCut:
            return True
        return False

    wait_for(is_cut, "a connection", PATIENCE_S)


def test_each_connection_begins_with_a_cut_and_has_no_message_of_the_one_before():
    came: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()
    connections: list[ServerConnection] = []

    def handler(socket: ServerConnection) -> None:
        connections.append(socket)
        number = len(connections)
        socket.send(encode(ANSWER))
        with suppress(ConnectionClosed):
            while True:
                came.put((number, decode(socket.recv())))  # type: ignore[arg-type]

    with linked(handler) as (link, watcher):
        link.send(Attach("before", []))
        await_cut(link)
        assert received(link) == [ANSWER]
        link.send(Attach("first", []))
        assert came.get(timeout=PATIENCE_S) == (1, Attach("first", []))
        request = connections[0].request
        assert request is not None and request.path == f"{PATH}?run=7&attempt=2"
        assert request.headers["Authorization"] == "Bearer stm_x"
        assert request.headers["Steersman-Version"] == steersman.__version__
        connections[0].close()
        wait_for(lambda: len(connections) == 2, "another connection", PATIENCE_S)
        # The host side does not know of the new connection yet.
        link.send(Ended(rank=0, code=0))
        await_cut(link)
        assert received(link) == [ANSWER]
        link.send(Attach("second", []))
        assert came.get(timeout=PATIENCE_S) == (2, Attach("second", []))
        assert watcher.there and all(isinstance(each, Unreachable) for each in watcher.problems)


def test_a_portal_that_reads_nothing_holds_up_nobody():
    ends = threading.Event()
    with linked(lambda socket: ends.wait() and None) as (link, _):
        await_cut(link)
        large = Attach("x" * 2_000_000, ())
        sender = threading.Thread(target=lambda: [link.send(large) for _ in range(50)], daemon=True)
        sender.start()
        sender.join(PATIENCE_S)
        is_held_up = sender.is_alive()
        ends.set()
        assert not is_held_up and link.receive() == []


def refusing(status: int, said: bytes) -> Callable[[ServerConnection, Request], Response | None]:
    def refuse(socket: ServerConnection, request: Request) -> Response:
        response = socket.respond(status, "")
        response.body = said
        del response.headers["Content-Length"]
        response.headers["Content-Length"] = str(len(said))
        return response

    return refuse


@pytest.mark.parametrize(
    ("status", "said", "kind", "words"),
    [
        (401, b"", Refused, "rejected this token, which is unknown or was revoked"),
        (403, b'{"error": "Only its own runs.", "field": ""}', Refused, "refuses: Only its own runs."),
        (404, b"", Refused, "No Steersman portal answers at"),
        (426, b'{"error": "Install version 7.", "field": ""}', Refused, "refuses: Install version 7."),
        (502, b"<h1>Bad gateway</h1>", Unreachable, "answers with status 502."),
    ],
)
def test_a_refusal_is_a_sentence(status: int, said: bytes, kind: type[PortalError], words: str):
    with linked(lambda socket: None, refusing(status, said)) as (link, watcher):
        wait_for(lambda: watcher.problems, "a refusal", PATIENCE_S)
        assert isinstance(watcher.problems[0], kind) and words in str(watcher.problems[0])
        assert link.receive() == [] and not watcher.there


@pytest.mark.parametrize(
    ("code", "reason", "kind", "words"),
    [
        (4403, "You may not train here any more.", Refused, "refuses: You may not train here any more."),
        (4426, "Install version 7.", Refused, "refuses: Install version 7."),
        (4408, "You did not read.", Unreachable, "cannot be reached"),
        (1012, "It restarts.", Unreachable, "cannot be reached"),
    ],
)
def test_a_portal_may_refuse_after_the_handshake(code: int, reason: str, kind: type[PortalError], words: str):
    with linked(lambda socket: socket.close(code, reason)) as (_, watcher):
        wait_for(lambda: watcher.problems, "a refusal", PATIENCE_S)
        assert isinstance(watcher.problems[0], kind) and not watcher.there
        assert words in str(watcher.problems[0])


def test_a_server_that_is_no_portal_is_refused():
    with linked(lambda socket: None, subprotocol="chat") as (_, watcher):
        wait_for(lambda: watcher.problems, "a problem", PATIENCE_S)
        assert isinstance(watcher.problems[0], PortalError)


@pytest.mark.parametrize("data", [b"\xff", "a text"])
def test_what_is_no_message_makes_another_connection(data: bytes | str):
    connections: list[ServerConnection] = []

    def handler(socket: ServerConnection) -> None:
        connections.append(socket)
        socket.send(data if len(connections) == 1 else encode(ANSWER))
        with suppress(ConnectionClosed):
            socket.recv()

    with linked(handler) as (link, _):
        await_cut(link)
        await_cut(link)
        assert received(link) == [ANSWER]


def test_a_run_that_is_not_open_yet_is_asked_for_again():
    asked = []

    def place() -> Place:
        asked.append(1)
        if len(asked) < 3:
            raise Unreachable("not yet")
        return Place(1, 1)

    with linked(lambda socket: socket.send(encode(ANSWER)), place=place) as (link, watcher):
        await_cut(link)
        assert received(link) == [ANSWER] and [str(each) for each in watcher.problems[:2]] == ["not yet", "not yet"]


@contextmanager
def tls_server(folder: Path, handler: Callable[[AsyncServerConnection], Awaitable[None]]) -> Iterator[int]:
    """The port of a server with TLS. It has an event loop, because OpenSSL allows one thread per connection."""
    write_certificate(folder, "localhost")
    certified = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certified.load_cert_chain(folder / "fullchain.pem", folder / "privkey.pem")
    loop = asyncio.new_event_loop()
    port: queue.SimpleQueue[int] = queue.SimpleQueue()
    over = asyncio.Event()

    async def run() -> None:
        async with serve_async(
            handler, "127.0.0.1", 0, ssl=certified, subprotocols=[PROTOCOL], compression=None
        ) as server:
            port.put(next(iter(server.sockets)).getsockname()[1])
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    try:
        yield port.get(timeout=PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(PATIENCE_S)
        loop.close()


def note_users(monkeypatch: pytest.MonkeyPatch) -> dict[object, set[str]]:
    """Return a dictionary that collects, for each TLS connection, the names of the threads that read or write it."""
    users: dict[object, set[str]] = {}
    for kind, method in (
        (ssl.SSLSocket, "recv"), (ssl.SSLSocket, "send"), (ssl.SSLObject, "read"), (ssl.SSLObject, "write")
    ):  # fmt: skip
        original = getattr(kind, method)

        def noting(self: object, *words: object, original: Callable[..., object] = original) -> object:
            users.setdefault(self, set()).add(threading.current_thread().name)
            return original(self, *words)

        monkeypatch.setattr(kind, method, noting)
    return users


def test_one_thread_uses_a_connection_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    users = note_users(monkeypatch)
    came: list[object] = []

    async def handler(socket: AsyncServerConnection) -> None:
        async def read() -> None:
            while len(came) < MANY:
                came.append(decode(await socket.recv()))  # type: ignore[arg-type]

        reading = asyncio.create_task(read())
        for _ in range(MANY):
            await socket.send(encode(ANSWER))
        await reading

    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ssl" / "fullchain.pem"))
    with tls_server(tmp_path / "ssl", handler) as port:
        watcher = Watcher()
        link = PortalLink(Login(f"https://localhost:{port}", "stm_x"), lambda: Place(7, 2), watcher, lambda: None)
        link.start()
        try:
            await_cut(link)
            sent = [Attach(str(number), []) for number in range(MANY)]
            for message in sent:
                link.send(message)
            answers: list[FromRecord] = []

            def all_came() -> bool:
                answers.extend(link.receive())
                return len(answers) == len(came) == MANY

            wait_for(all_came, lambda: f"{len(answers)} answers, {len(came)} messages, {watcher.problems}", PATIENCE_S)
        finally:
            link.stop()
    assert came == sent and answers == [ANSWER] * MANY
    assert len(users) == 2 and all(len(threads) == 1 for threads in users.values()), users
