"""An OpenID Connect provider for tests: it has one user at a time and no page, and returns a code at once."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt

CLIENT_ID = "steersman"
CLIENT_SECRET = "canary-of-the-client"


class Provider:
    """Serves discovery, authorisation with PKCE, tokens and user info until `stop`. `claims` describe the user."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {}
        self.audience = CLIENT_ID
        # The challenge and the redirect address, by code.
        self._given: dict[str, tuple[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.answer_get(self)

            def do_POST(self) -> None:
                provider.answer_post(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer_get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        if parts.path == "/.well-known/openid-configuration":
            _json(request, {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "jwks_uri": f"{self.issuer}/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
            })  # fmt: skip
        elif parts.path == "/authorize":
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            code = secrets.token_urlsafe(16)
            self._given[code] = (asked["code_challenge"], asked["redirect_uri"])
            request.send_response(302)
            request.send_header(
                "Location", f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"
            )
            request.end_headers()
        elif parts.path == "/userinfo" and request.headers["Authorization"] == "Bearer access":
            _json(request, self.claims)
        else:
            request.send_error(404)

    def answer_post(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        sent = {name: values[0] for name, values in parse_qs(body).items()}
        challenge, led_to = self._given.pop(sent.get("code", ""), ("", ""))
        verifier = hashlib.sha256(sent.get("code_verifier", "").encode()).digest()
        is_right = (
            request.path == "/token"
            and challenge == urlsafe_b64encode(verifier).decode().rstrip("=")
            and sent.get("redirect_uri") == led_to
            and (sent.get("client_id"), sent.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
        )
        if not is_right:
            request.send_error(400)
            return
        now = int(time.time())
        told = {"iss": self.issuer, "aud": self.audience, "iat": now, "exp": now + 300, **self.claims}
        id_token = jwt.encode(told, "a key that only the provider has, 32 bytes", algorithm="HS256")
        _json(request, {"access_token": "access", "token_type": "Bearer", "expires_in": 300, "id_token": id_token})


def _json(request: BaseHTTPRequestHandler, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
