"""Cheap viewers for benches: many raw WebSockets on one epoll, with the part of RFC 6455 that viewers need.

It is not a bench. A viewer answers pings, echoes the close frame, and inflates messages that are each compressed
independently. It reads unfragmented messages only, because the server never fragments.

    with Crowd(port, heard) as crowd:
        viewers = crowd.connect(f"/ws/runs/1/?token={key}", 500)     # each has received its first frame: hello
        crowd.pump(10.0)                                             # calls `heard` for every later frame
        crowd.stall(viewers[:25])                                    # these never read again
"""

from __future__ import annotations

import base64
import errno
import json
import os
import select
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

READ_BYTES = 256 * 1024
# Concurrent handshakes: the server's queue of connections that are not yet accepted has this length.
CONNECTING_AT_ONCE = 40
GREETING_TIMEOUT_S = 120.0
DEFLATE_OFFER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
# The offer of browsers: a message may refer to earlier ones.
BROWSERS_OFFER = "permessage-deflate; client_max_window_bits"
# The bytes that a sender omits at the end of a compressed message (RFC 7692).
DEFLATE_END = b"\x00\x00\xff\xff"
ABNORMAL = 1006

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
FINAL, COMPRESSED = 0x80, 0x40
GONE = select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP


@dataclass(eq=False, slots=True)
class Viewer:
    """One socket. Times are of the monotonic clock; `code` is the close code, and `ended_at` the time of the close."""

    number: int
    connection: socket.socket
    request: bytes
    rest: bytes = b""
    is_open: bool = False
    greeted_at: float = 0.0
    read_at: float = 0.0
    stalled: bool = False
    ended_at: float = 0.0
    code: int = 0
    reason: str = ""
    frames: int = 0
    packed_frames: int = 0
    bytes_read: int = 0
    waits_to_send: bytearray = field(default_factory=bytearray)
    inflate: Callable[[bytes], bytes] | None = None


# Called with the viewer, the text of a frame, and its time of arrival (`time.time()`).
Heard = Callable[[Viewer, bytes, float], None]


class Crowd:
    """Viewers of the server at `port` of this machine. `heard` is called for every frame except a viewer's first.

    With `deflate` they offer permessage-deflate with messages that are each compressed independently, so that a text
    for all viewers is inflated once. With `remembers` they offer it as browsers do, and each inflates its own messages.
    """

    def __init__(self, port: int, heard: Heard, deflate: bool = False, remembers: bool = False) -> None:
        self.port = port
        self.viewers: list[Viewer] = []
        self._heard = heard
        self._offer = BROWSERS_OFFER if remembers else DEFLATE_OFFER if deflate else ""
        self._remembers = remembers
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, Viewer] = {}
        self._packed, self._inflated = b"", b""

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for viewer in self.viewers:
            self._end(viewer, ABNORMAL, "the bench is over")
        self._epoll.close()

    def connect(self, target: str, count: int, receive_buffer: int = 0) -> list[Viewer]:
        """Connect `count` viewers to `target`, path and query, and return them when greeted: see `connect_all`."""
        return self.connect_all([target] * count, receive_buffer)

    def connect_all(self, targets: Sequence[str], receive_buffer: int = 0) -> list[Viewer]:
        """Connect a viewer to each of `targets`, path and query, and return them when all are greeted.

        With `receive_buffer` the system buffers about this many bytes for a viewer that does not read. Raises
        `TimeoutError` or `ConnectionError` if the server does not greet one.
        """
        made: list[Viewer] = []
        count = len(targets)
        until = time.monotonic() + GREETING_TIMEOUT_S
        while len(made) < count or not all(viewer.greeted_at for viewer in made):
            under_way = sum(not viewer.greeted_at for viewer in made[-2 * CONNECTING_AT_ONCE :])
            while len(made) < count and under_way < CONNECTING_AT_ONCE:
                made.append(self._open(targets[len(made)], receive_buffer))
                under_way += 1
            self.pump(0.05)
            refused = [viewer for viewer in made if viewer.ended_at]
            if refused:
                codes = sorted({f"{viewer.code} {viewer.reason}".strip() for viewer in refused})
                raise ConnectionError(f"{len(refused)} viewers were not greeted or cut at once: {', '.join(codes)}")
            if time.monotonic() > until:
                greeted = sum(bool(viewer.greeted_at) for viewer in made)
                raise TimeoutError(f"{greeted} of {count} viewers were greeted in {GREETING_TIMEOUT_S:.0f} s")
        return made

    def pump(self, seconds: float = 0.0) -> None:
        """Read and answer messages for `seconds`; with 0, only messages that have arrived."""
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            for descriptor, events in self._epoll.poll(max(0.0, left), 512):
                viewer = self._by_descriptor.get(descriptor)
                if viewer is not None:
                    self._serve(viewer, events)
            if left <= 0:
                return

    def stall(self, viewers: Iterable[Viewer]) -> None:
        """Never read these sockets again. The crowd still notices when the server disconnects one."""
        for viewer in viewers:
            viewer.stalled = True
            if not viewer.ended_at:
                self._epoll.modify(viewer.connection.fileno(), select.EPOLLRDHUP)

    def say(self, viewer: Viewer, text: str) -> None:
        """Send a text frame."""
        self._send(viewer, masked(TEXT, text.encode()))

    def _open(self, target: str, receive_buffer: int) -> Viewer:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.setblocking(False)
        offer = f"Sec-WebSocket-Extensions: {self._offer}\r\n" if self._offer else ""
        request = (
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: steersman.v1\r\n{offer}\r\n"
        )
        viewer = Viewer(len(self.viewers), connection, request.encode())
        if self._remembers:
            viewer.inflate = zlib.decompressobj(-15).decompress
        connection.connect_ex(("127.0.0.1", self.port))
        self.viewers.append(viewer)
        self._by_descriptor[connection.fileno()] = viewer
        self._epoll.register(connection.fileno(), select.EPOLLOUT)
        return viewer

    def _serve(self, viewer: Viewer, events: int) -> None:
        if viewer.stalled:
            if events & GONE:
                self._end(viewer, viewer.code or ABNORMAL)
            return
        if events & select.EPOLLOUT:
            self._write(viewer)
        if events & (select.EPOLLIN | GONE) and not viewer.ended_at:
            self._read(viewer)

    def _write(self, viewer: Viewer) -> None:
        if viewer.request:
            request, viewer.request = viewer.request, b""
            self._epoll.modify(viewer.connection.fileno(), select.EPOLLIN)
            self._send(viewer, request)
            return
        waiting, viewer.waits_to_send = bytes(viewer.waits_to_send), bytearray()
        if not viewer.stalled:
            self._epoll.modify(viewer.connection.fileno(), select.EPOLLIN)
        self._send(viewer, waiting)

    def _send(self, viewer: Viewer, data: bytes) -> None:
        if viewer.ended_at:
            return
        sent = 0
        try:
            if not viewer.waits_to_send:
                sent = viewer.connection.send(data)
        except BlockingIOError:
            pass
        except OSError as error:
            self._lost(viewer, error)
            return
        if sent < len(data) and not viewer.stalled:
            viewer.waits_to_send += data[sent:]
            self._epoll.modify(viewer.connection.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _read(self, viewer: Viewer) -> None:
        try:
            data = viewer.connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(viewer, error)
            return
        if not data:
            self._end(viewer, viewer.code or ABNORMAL)
            return
        came_at, viewer.read_at = time.time(), time.monotonic()
        viewer.bytes_read += len(data)
        data = viewer.rest + data if viewer.rest else data
        if not viewer.is_open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                viewer.rest = head
                return
            status = head.split(b"\r\n", 1)[0].decode("latin-1")
            if b" 101 " not in head[:16]:
                self._end(viewer, ABNORMAL, status)
                return
            viewer.is_open = True
        viewer.rest = self._frames(viewer, data, came_at)

    def _frames(self, viewer: Viewer, data: bytes, came_at: float) -> bytes:
        """Handle the complete frames in `data`, and return the rest."""
        start, size = 0, len(data)
        while size - start >= 2 and not viewer.ended_at:
            first, length, begin = data[start], data[start + 1], start + 2
            if length == 126:
                if size < begin + 2:
                    break
                length, begin = int.from_bytes(data[begin : begin + 2], "big"), begin + 2
            elif length == 127:
                if size < begin + 8:
                    break
                length, begin = int.from_bytes(data[begin : begin + 8], "big"), begin + 8
            if size < begin + length:
                break
            start = begin + length
            self._take(viewer, first, data[begin:start], came_at)
        return data[start:]

    def _take(self, viewer: Viewer, first: int, payload: bytes, came_at: float) -> None:
        if first & ~COMPRESSED == FINAL | TEXT:
            viewer.frames += 1
            if first & COMPRESSED:
                viewer.packed_frames += 1
                payload = viewer.inflate(payload + DEFLATE_END) if viewer.inflate else self._inflate(payload)
            if viewer.greeted_at:
                self._heard(viewer, payload, came_at)
            else:
                viewer.greeted_at = viewer.read_at
        elif first == FINAL | PING:
            self._send(viewer, masked(PONG, payload))
        elif first == FINAL | CLOSE:
            viewer.code = int.from_bytes(payload[:2], "big") if payload else 1005
            viewer.reason = payload[2:].decode(errors="replace")
            self._send(viewer, masked(CLOSE, payload[:2]))
            self._end(viewer, viewer.code, viewer.reason)
        elif first != FINAL | PONG:
            raise ValueError(f"viewer {viewer.number} got a frame that begins with {first:#04x}")

    def _inflate(self, packed: bytes) -> bytes:
        if packed != self._packed:
            self._packed, self._inflated = packed, zlib.decompressobj(-15).decompress(packed + DEFLATE_END)
        return self._inflated

    def _lost(self, viewer: Viewer, error: OSError) -> None:
        self._end(viewer, viewer.code or ABNORMAL, errno.errorcode.get(error.errno or 0, str(error)))

    def _end(self, viewer: Viewer, code: int, reason: str = "") -> None:
        if viewer.ended_at:
            return
        viewer.ended_at, viewer.code, viewer.reason = time.monotonic(), code, reason or viewer.reason
        del self._by_descriptor[viewer.connection.fileno()]
        viewer.connection.close()


def masked(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame. Its mask is zero, which is legal and costs nothing."""
    if len(payload) < 126:
        head = struct.pack("!BB", FINAL | opcode, 0x80 | len(payload))
    else:
        head = struct.pack("!BBH", FINAL | opcode, 0x80 | 126, len(payload))
    return head + b"\x00\x00\x00\x00" + payload


def metrics_events_in(text: bytes) -> int:
    """Return the number of metrics events in a frame: in an array, or merged for a viewer who was behind."""
    if b'"first_seq"' not in text:
        return text.count(b'"metrics"')
    found = json.loads(text)
    messages = found if isinstance(found, list) else [found]
    return sum(1 + one["seq"] - one.get("first_seq", one["seq"]) for one in messages if one["kind"] == "metrics")
