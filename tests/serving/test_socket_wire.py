"""Sockets of the real server: frames go directly to the connection, slow readers lose nothing, silent ones are cut."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from websockets.sync.client import connect

from runs.protocol.wire_format import END_OF_BLOCK, WINDOW_BITS
from tests.support.stack import Stack, create_run, seed_stack, wait_for

# The portal of this test counts the frames that went directly to a connection, and those that waited.
PROGRAM = """
from monitor_site.serving import daphne_server, socket_wire
sent = socket_wire.SocketWire.send
counts = [0, 0]
def send(self, frame):
    done = sent(self, frame)
    counts[not done] += 1
    with open(os.environ["COUNTS"] + ".new", "w") as file:
        file.write("%d %d" % tuple(counts))
    os.replace(os.environ["COUNTS"] + ".new", os.environ["COUNTS"])
    return done
socket_wire.SocketWire.send = send
daphne_server.PING_INTERVAL_S, daphne_server.PING_TIMEOUT_S = 0.2, float(os.environ["PING_TIMEOUT"])
daphne_server.CHECK_INTERVAL_S = 0.05
if os.environ["WIRE"] == "off":
    daphne_server.wire_of = lambda protocol: None
"""


@contextmanager
def portal(*, wire: str = "on", ping_timeout_s: float = 60.0) -> Iterator[Stack]:
    with Stack(WIRE=wire, PING_TIMEOUT=str(ping_timeout_s)) as stack:
        stack.environment["COUNTS"] = str(stack.folder / "counts")
        seed_stack(stack)
        stack.start_redis()
        stack.start_web(PROGRAM)
        yield stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with portal() as stack:
        yield stack


def token_of(stack: Stack) -> str:
    return stack.manage(
        "create_token", "--project", "lab", "--user", "operator", "--scope", "command", check=True
    ).stdout.strip()


BROWSERS_OFFER = "permessage-deflate; client_max_window_bits"


class RawViewer:
    """A viewer that decides when it reads: a plain socket with a small buffer."""

    def __init__(
        self, port: int, run: int, token: str, *, compression: bool = False, offer: str = BROWSERS_OFFER
    ) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
        self.socket.settimeout(60)
        self.socket.connect(("127.0.0.1", port))
        lines = [
            f"GET /ws/runs/{run}/ HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Protocol: steersman.v1",
            f"Authorization: Bearer {token}",
            *([f"Sec-WebSocket-Extensions: {offer}"] if compression else []),
        ]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self._data = b""
        # Messages may refer to earlier ones.
        self._inflate = zlib.decompressobj(-WINDOW_BITS).decompress
        while b"\r\n\r\n" not in self._data:
            self._data += self.socket.recv(4096)
        head, self._data = self._data.split(b"\r\n\r\n", 1)
        self.head = head.decode()

    def send(self, opcode: int, payload: bytes = b"", rsv: int = 0) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        assert len(payload) < 126
        self.socket.sendall(bytes([0x80 | rsv << 4 | opcode, 0x80 | len(payload)]) + mask + masked)

    def frame(self) -> tuple[int, bytes]:
        """Return first byte and payload of the next frame."""
        first, length = self._read(2)
        if length == 126:
            length = struct.unpack("!H", self._read(2))[0]
        elif length == 127:
            length = struct.unpack("!Q", self._read(8))[0]
        return first, self._read(length)

    def _read(self, number: int) -> bytes:
        while len(self._data) < number:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError
            self._data += more
        found, self._data = self._data[:number], self._data[number:]
        return found

    def messages(self, asked: threading.Event | None = None) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Yield each message with the bytes of its frame. Answers pings, and sets `asked` with each."""
        while True:
            first, payload = self.frame()
            if first & 0xF == 9:
                self.send(10, payload)
                if asked is not None:
                    asked.set()
            if first & 0xF != 1:
                continue
            plain = payload
            if first & 0x40:
                plain = self._inflate(payload + END_OF_BLOCK)
            message = json.loads(plain)
            for one in message if isinstance(message, list) else [message]:
                yield payload, one


def append(stack: Stack, run: int, number: int, characters: int = 10, text: str = "") -> None:
    imports = "from runs.recording import feed; from runs.protocol.events import LogLine, LogWritten"
    event = f"LogWritten(attempt=1, lines=[LogLine(text={text!r} or 'x' * {characters})])"
    loop = f"for number in range({number}): feed.append({run}, {event})"
    stack.manage("shell", "-v", "0", "-c", f"{imports}\n{loop}")


def counts(stack: Stack) -> tuple[int, int]:
    """Return how many frames went directly to a connection, and how often one had to wait."""
    direct, waited = (stack.folder / "counts").read_text().split()
    return int(direct), int(waited)


def next_line(viewer: RawViewer) -> tuple[bytes, dict[str, Any]]:
    return next(found for found in viewer.messages() if found[1]["kind"] == "log")


def wait_for_greeting(*viewers: RawViewer) -> None:
    """Wait until the viewers are greeted: an event before that is part of the greeting, not a separate message."""
    for viewer in viewers:
        assert next(viewer.messages())[1]["kind"] == "hello"


def seqs_of(viewer: RawViewer, last: int) -> list[int]:
    found = []
    for _, message in viewer.messages():
        if message["kind"] == "log":
            found.append(message["seq"])
            if message["seq"] == last:
                break
    return found


def test_events_go_straight_to_the_connection(stack: Stack) -> None:
    run = create_run(stack, "direct")
    viewer = RawViewer(stack.port, run, token_of(stack))
    wait_for_greeting(viewer)
    append(stack, run, 5)
    assert seqs_of(viewer, 5) == [1, 2, 3, 4, 5]
    # Counted after sending. If nothing is sent directly, Twisted's transport has changed: see socket_wire.py.
    wait_for(lambda: counts(stack) == (5, 0), "five frames that went straight to the connection")
    viewer.socket.close()


def test_without_a_connection_to_lend_they_pass_through_daphne() -> None:
    with portal(wire="off") as stack:
        run = create_run(stack, "lent")
        viewer = RawViewer(stack.port, run, token_of(stack))
        wait_for_greeting(viewer)
        append(stack, run, 5)
        assert seqs_of(viewer, 5) == [1, 2, 3, 4, 5]
        assert not (stack.folder / "counts").exists()
        viewer.socket.close()


def test_a_slow_reader_gets_everything_once_and_in_order_later(stack: Stack) -> None:
    run = create_run(stack, "slow")
    quick, slow = RawViewer(stack.port, run, token_of(stack)), RawViewer(stack.port, run, token_of(stack))
    wait_for_greeting(quick, slow)
    # More than all buffers can take, and less than the viewer may be behind.
    append(stack, run, 100, characters=25_000)
    assert seqs_of(quick, 100) == list(range(1, 101))
    _, waited = counts(stack)
    assert waited, "nothing waited: the test shows nothing"
    assert seqs_of(slow, 100) == list(range(1, 101))
    # The next one is sent directly again.
    direct, _ = counts(stack)
    append(stack, run, 1)
    assert seqs_of(slow, 101) == [101] and seqs_of(quick, 101) == [101]
    wait_for(lambda: counts(stack)[0] >= direct + 2, "two more frames that went straight")
    for viewer in (quick, slow):
        viewer.socket.close()


def test_messages_are_compressed_alike_for_all(stack: Stack) -> None:
    run = create_run(stack, "compressed")
    token = token_of(stack)
    viewers = [RawViewer(stack.port, run, token, compression=True) for _ in range(3)]
    plain = RawViewer(stack.port, run, token)
    assert "; client_no_context_takeover" in viewers[0].head and "Extensions" not in plain.head
    wait_for_greeting(*viewers, plain)
    append(stack, run, 1, characters=1_000)
    received = [next(found for found in viewer.messages() if found[1]["kind"] == "log") for viewer in (*viewers, plain)]
    assert received[0] == received[1] and received[0][1] == received[-1][1]
    assert len(received[0][0]) < len(received[-1][0]) / 2
    # The portal reads compressed messages of a viewer, and limits their inflated size.
    viewers[0].send(1, _deflate(b'{"kind":"ping"}'), rsv=4)
    assert next(message for _, message in viewers[0].messages() if message["kind"] == "pong")
    # A message that is one byte too large is not truncated, which would change its meaning.
    for viewer, size in zip(viewers[1:], (70_000, 65_537), strict=True):
        viewer.send(1, _deflate(b"1" * size), rsv=4)
        assert _code(viewer) == 1009, size
    for viewer in (*viewers, plain):
        viewer.socket.close()


def test_a_message_refers_to_the_one_before_it_and_to_no_other(stack: Stack) -> None:
    run = create_run(stack, "window")
    token = token_of(stack)
    browser, other = (RawViewer(stack.port, run, token, compression=True) for _ in range(2))
    # As some clients request it.
    alone = RawViewer(stack.port, run, token, compression=True, offer="permessage-deflate; server_no_context_takeover")
    assert "server_no_context_takeover" not in browser.head and "server_no_context_takeover" in alone.head
    text = base64.b64encode(os.urandom(750)).decode()
    wait_for_greeting(browser, other, alone)
    append(stack, run, 1, text=text)
    found = {viewer: [next_line(viewer)] for viewer in (browser, other, alone)}
    # Only this viewer receives a compressed answer between the first two messages.
    other.send(1, b'{"kind":"ping","echo":"' + b"x" * 100 + b'"}')
    assert next(message for _, message in other.messages() if message["kind"] == "pong")
    # One at a time, because two that wait together may share a frame.
    for _ in range(2):
        append(stack, run, 1, text=text)
        for viewer, lines in found.items():
            lines.append(next_line(viewer))
    sizes = {viewer: [len(payload) for payload, _ in lines] for viewer, lines in found.items()}
    assert {message["lines"][0]["text"] for lines in found.values() for _, message in lines} == {text}
    whole = sizes[alone]
    assert sizes[browser][0] == whole[0] and max(sizes[browser][1:]) < min(whole) / 4
    assert sizes[other][:2] == whole[:2] and sizes[other][2] == sizes[browser][2]
    for viewer in found:
        viewer.socket.close()


@pytest.mark.parametrize("compression", ["deflate", None])
def test_a_client_library_understands_it(stack: Stack, compression: str | None) -> None:
    run = create_run(stack, f"library-{compression}")
    address = f"{stack.address.replace('http', 'ws')}/ws/runs/{run}/"
    header = {"Authorization": f"Bearer {token_of(stack)}"}
    with connect(address, additional_headers=header, compression=compression) as client:
        assert json.loads(client.recv(timeout=60))["kind"] == "hello"
        append(stack, run, 2, characters=1_000)
        kinds: list[str] = []
        while kinds.count("log") < 2:
            message = json.loads(client.recv(timeout=60))
            kinds += [one["kind"] for one in (message if isinstance(message, list) else [message])]
        client.send(json.dumps({"kind": "ping", "echo": "x" * 1_000}))
        while json.loads(client.recv(timeout=60))["kind"] != "pong":
            pass


def test_a_peer_that_sends_and_never_reads_is_cut(stack: Stack) -> None:
    with portal(ping_timeout_s=3.0) as stack:
        run = create_run(stack, "deaf")
        token = token_of(stack)
        deaf, sound = RawViewer(stack.port, run, token), RawViewer(stack.port, run, token)
        asked, kinds = threading.Event(), list[str]()
        with closing(deaf.socket), closing(sound.socket):
            # The first viewer answers its pings until the test ends.
            threading.Thread(target=_follow, args=(sound, asked, kinds), daemon=True).start()
            with pytest.raises(ConnectionError):
                # The second one sends other messages as often, and outdated answers.
                while asked.wait(60):
                    asked.clear()
                    deaf.send(1, b'{"kind":"ping"}')
                    deaf.send(10, b"12345678")
            append(stack, run, 1)
            wait_for(lambda: "log" in kinds, "the event at the viewer that answers")


def test_who_is_cut_learns_the_code_if_it_reads_again() -> None:
    with portal(ping_timeout_s=0.5) as stack:
        run = create_run(stack, "late")
        viewer = RawViewer(stack.port, run, token_of(stack))
        assert _code(viewer) == 4408
        viewer.socket.close()


def _deflate(message: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(END_OF_BLOCK)


def _code(viewer: RawViewer) -> int:
    """Return the code of the next close frame, without answering pings."""
    while True:
        first, payload = viewer.frame()
        if first & 0xF == 8:
            return int.from_bytes(payload[:2])


def test_who_answered_while_the_portal_stood_still_is_not_cut() -> None:
    with portal(ping_timeout_s=1.5) as stack:
        run = create_run(stack, "frozen")
        token = token_of(stack)
        assert stack.web is not None
        viewers, asked = [], []
        for _ in range(10):
            viewers.append(RawViewer(stack.port, run, token))
            asked.append(threading.Event())
            threading.Thread(target=_follow, args=(viewers[-1], asked[-1], []), daemon=True).start()
        assert all(event.wait(60) for event in asked)
        for _ in range(3):
            os.kill(stack.web.pid, signal.SIGSTOP)
            # Longer than a viewer may take to answer; the portal must not count this time against it.
            time.sleep(2.0)
            for event in asked:
                event.clear()
            os.kill(stack.web.pid, signal.SIGCONT)
            assert all(event.wait(60) for event in asked), "a viewer was cut"
        for viewer in viewers:
            viewer.socket.close()


def _follow(viewer: RawViewer, asked: threading.Event, kinds: list[str]) -> None:
    """Answer pings, and record the kind of each message."""
    with contextlib.suppress(OSError, EOFError):
        for _, message in viewer.messages(asked):
            kinds.append(message["kind"])
