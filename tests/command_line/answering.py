"""A server at a free port that answers each request with one answer, and keeps what it was asked."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Answering:
    """`answer` is the body, JSON unless it is a text; `location` is where a redirect leads."""

    status: int
    answer: object
    location: str = ""
    port: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def answering(status: int, answer: object, location: str = "", tls: Path | None = None) -> Iterator[Answering]:
    """Serve until the block ends; `tls` is a folder of `tests.support.tls.certificate`."""
    found = Answering(status, answer, location)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            found.asked.append({"path": self.path, "body": self.rfile.read(length).decode(), **dict(self.headers)})
            is_text = isinstance(found.answer, str)
            body = (found.answer if isinstance(found.answer, str) else json.dumps(found.answer)).encode()
            self.send_response(found.status)
            if found.location:
                self.send_header("Location", found.location)
            self.send_header("Content-Type", "text/html" if is_text else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "fullchain.pem", tls / "privkey.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
