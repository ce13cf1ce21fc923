"""Fake receivers of messages: two mail servers, robots of DingTalk and WeCom, ntfy. They keep what they receive.

Each listens on 127.0.0.1, can be stopped, and started again on its port.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.stack import free_port
from tests.support.tls.certificate import write_certificate

ACCOUNT, CODE = "training@qq.example", "authorizationcode"


def make_certificate(folder: Path) -> Path:
    """Write `server.pem`, a self-signed certificate with its key for localhost, and return its path."""
    parts = folder / "parts"
    write_certificate(parts, "localhost")
    path = folder / "server.pem"
    path.write_bytes((parts / "privkey.pem").read_bytes() + (parts / "fullchain.pem").read_bytes())
    return path


class MailServer:
    """Keeps each mail with its time of arrival.

    `refusal` answers every recipient, if set; `delay_s` delays the answer.
    """

    def __init__(self, certificate: Path | None = None, security: str = "none") -> None:
        self.port = free_port()
        self.mails: list[tuple[float, EmailMessage]] = []
        self.greetings: list[str] = []
        self.refusal = ""
        self.accepts = threading.Event()
        self.accepts.set()
        self._security = security
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._controller: Controller | None = None

    def start(self) -> None:
        options: dict[str, Any] = {}
        if self._security != "none":
            options = {"authenticator": self._authenticate, "auth_required": True}
        if self._security == "starttls":
            options |= {"tls_context": self._context, "require_starttls": True}
        if self._security == "tls":
            options |= {"ssl_context": self._context, "auth_require_tls": False}
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **options)
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def ids(self) -> list[str]:
        return [str(mail["Message-ID"]) for _, mail in self.mails]

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        if (data.login, data.password) == (ACCOUNT.encode(), CODE.encode()):
            return AuthResult(success=True)
        return AuthResult(success=False, handled=False, message="535 Login fail. Authorization code is expired")

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        self.greetings.append(hostname)
        session.host_name = hostname
        return responses

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._security != "none" and address != ACCOUNT:
            return "501 Mail from address must be same as authorization user."
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refusal:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append((time.time(), message_from_bytes(content, policy=policy.default)))  # type: ignore[arg-type]
        # While `accepts` is off, the server has the mail but does not confirm it.
        while not self.accepts.is_set():
            await asyncio.sleep(0.02)
        return "250 OK"


class HttpServer:
    """Keeps each request as (moment, path, headers, body); `answer` is its response: (status, headers, body)."""

    def __init__(self) -> None:
        self.port = free_port()
        self.requests: list[tuple[float, str, dict[str, str], bytes]] = []
        self._server: ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, b"ok"

    def start(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = dict(self.headers.items())
                fake.requests.append((time.time(), self.path, headers, body))
                status, sent, answer = fake.answer(self.path, headers, body)
                self.send_response(status)
                for name, value in (sent | {"Content-Length": str(len(answer))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            do_PUT = do_GET = do_POST

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _robot_answer(code: int, text: str) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps({"errcode": code, "errmsg": text}).encode()


class DingTalkRobot(HttpServer):
    """Accepts messages that are signed by its key, no older than an hour, and contain its keyword."""

    token, key = "tokenofthedingtalkrobot", "SECofthedingtalkrobot"

    def __init__(self, keyword: str = "") -> None:
        super().__init__()
        self.keyword = keyword
        self.texts: list[str] = []

    @property
    def url(self) -> str:
        return f"{self.address}/robot/send?access_token={self.token}&secret={self.key}"

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        if query.get("access_token") != self.token:
            return _robot_answer(300005, f"token is not exist: {query.get('access_token')}")
        moment = query.get("timestamp", "0")
        expected = hmac.new(self.key.encode(), f"{moment}\n{self.key}".encode(), hashlib.sha256).digest()
        if query.get("sign") != base64.b64encode(expected).decode() or abs(int(moment) / 1000 - time.time()) > 3600:
            return _robot_answer(310000, "sign not match, more: [https://ding-doc.dingtalk.com]")
        text = json.loads(body)["markdown"]["text"]
        if self.keyword not in text:
            return _robot_answer(310000, "keywords not in content")
        self.texts.append(text)
        return _robot_answer(0, "ok")


class WeComRobot(HttpServer):
    """Accepts Markdown of at most 4,096 bytes that is sent with its key."""

    key = "keyofthewecomrobot"

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    @property
    def url(self) -> str:
        return f"{self.address}/cgi-bin/webhook/send?key={self.key}"

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if parse_qs(urlsplit(path).query).get("key") != [self.key]:
            return _robot_answer(93000, "invalid webhook url, hint: [1700000000], from ip: 127.0.0.1")
        told = json.loads(body)
        if told["msgtype"] != "markdown" or len(told["markdown"]["content"].encode()) > 4096:
            return _robot_answer(40058, "markdown.content exceed max length 4096")
        self.texts.append(told["markdown"]["content"])
        return _robot_answer(0, "ok")


class Ntfy(HttpServer):
    """Accepts messages of one topic with the token of a user, and files."""

    topic, token = "trainings", "tk_ofthentfyserver"

    @property
    def url(self) -> str:
        return f"ntfy://{self.token}@127.0.0.1:{self.port}/{self.topic}"

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {}, b'{"code":40101,"http":401,"error":"unauthorized"}'
        return 200, {"Content-Type": "application/json"}, b'{"id":"1","event":"message"}'
