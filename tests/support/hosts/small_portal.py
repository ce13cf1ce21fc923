"""The record side of training hosts as one process: opens runs over HTTP, and answers host sides over WebSockets.

usage: python -m tests.support.hosts.small_portal PORT TOKEN
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import django
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

LOOK_INTERVAL_S = 0.05
SUBPROTOCOL = "steersman.host.v1"


class Nobody:
    """Looks at no report."""

    def see(self, report: object, step: int, stalled: bool) -> None: ...
    def take_lines(self) -> list[object]:
        return []

    def finish(self) -> None: ...


class Opened:
    """The runs by their keys, and the attempts by their starts, in a file that outlives this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def open(self, asked: dict[str, Any], address: str) -> dict[str, Any]:
        from runs.models import Project, Run, RunState
        from runs.recording.lifecycle import Holder, open_attempt

        with self._lock:
            known = json.loads(self._path.read_text()) if self._path.exists() else {}
            if asked["start"] not in known:
                number = known.get(asked["key"])
                if number is None:
                    named = {"name": asked["name"], "ranks": asked["ranks"], "restarts": asked["restarts"]}
                    number = Run.objects.create(project=Project.objects.get(slug="lab"), **named).pk
                run = Run.objects.get(pk=number)
                lease = open_attempt(
                    number, Holder(asked["host"], asked["boot_id"], asked["pid"]), run.attempt,
                    command_line=asked["command_line"], ranks=asked["ranks"], restart=run.state == RunState.QUEUED,
                )  # fmt: skip
                known |= {asked["key"]: number, asked["start"]: [number, lease.number]}
                self._path.write_text(json.dumps(known))
            run_id, attempt = known[asked["start"]]
        return {"run": run_id, "attempt": attempt, "page": f"{address}/runs/{run_id}/", "is_new_run": True}


class Handler(BaseHTTPRequestHandler):
    opened: Opened
    token: str
    sockets_port: int

    def handle(self) -> None:
        if self.request.recv(8, socket.MSG_PEEK) == b"GET /ws/":
            self._lead_on()
        else:
            super().handle()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {self.token}":
            self._answer(401, {"error": "This token is not valid.", "field": "Authorization"})
        elif "key" not in asked:
            self._answer(422, {"error": "Field required", "field": "key"})
        else:
            self._answer(201, self.opened.open(asked, f"http://{self.headers['Host']}"))

    def log_message(self, format: str, *arguments: object) -> None: ...

    def _answer(self, status: int, answer: object) -> None:
        from django.db import connection as database

        database.close()
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _lead_on(self) -> None:
        """Let the bytes go to the server of WebSockets and back until one end is closed."""
        with socket.create_connection(("127.0.0.1", self.sockets_port)) as behind:
            back = threading.Thread(target=carry, args=(behind, self.request), daemon=True)
            back.start()
            carry(self.request, behind)
            back.join()


def carry(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            to.sendall(data)
    for end in (source, to):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def converse(connection: ServerConnection) -> None:
    assert connection.request is not None
    words = parse_qs(urlsplit(connection.request.path).query)
    if connection.request.headers["Authorization"] != f"Bearer {Handler.token}":
        connection.close(4401, "This token is not valid.")
        return
    with suppress(ConnectionClosed):
        answer_all(connection, int(words["run"][0]), int(words["attempt"][0]))


def answer_all(connection: ServerConnection, run_id: int, number: int) -> None:
    """Answer one host side until the way to it is broken. A database that is busy is asked again."""
    from django.db import Error as DatabaseError
    from django.db import connection as database

    from runs.models import Attempt
    from runs.recording.lifecycle import Lease
    from runs.recording.record_side.session import RecordSession
    from steersman.wire.codec import decode, encode
    from trainer.control.concluding import conclude_ended

    nobody: Any = Nobody()
    attempt = Attempt.objects.get(run_id=run_id, number=number)
    session = RecordSession(Lease(run_id, attempt.pk, number), conclude_ended, nobody)
    waiting: list[Any] = []
    looked_at = 0.0
    try:
        while True:
            with suppress(TimeoutError):
                waiting.append(decode(connection.recv(LOOK_INTERVAL_S)))  # type: ignore[arg-type]
            try:
                while waiting:
                    answers = session.answer(waiting[0])
                    waiting.pop(0)
                    for each in answers:
                        connection.send(encode(each))
                if time.monotonic() - looked_at > LOOK_INTERVAL_S:
                    looked_at = time.monotonic()
                    for order in session.look(for_commands=True):
                        connection.send(encode(order))
            except DatabaseError:
                database.close()
    finally:
        database.close()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def main() -> None:
    django.setup()
    from django.conf import settings

    Handler.token = sys.argv[2]
    Handler.opened = Opened(settings.STEERSMAN_DATA / "small-portal.json")
    sockets = serve(converse, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], max_size=16 << 20)  # type: ignore[list-item]
    threading.Thread(target=sockets.serve_forever, daemon=True).start()
    Handler.sockets_port = sockets.socket.getsockname()[1]
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever(0.05)


if __name__ == "__main__":
    main()
