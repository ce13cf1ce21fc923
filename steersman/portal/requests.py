"""Requests of a training host to a portal, with a sentence for whatever goes wrong. Proxy variables are honoured."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, cast

import steersman
from steersman.portal.logins import Login
from steersman.records.typed_json import Malformed, decode, encode

RUNS = "/api/runs/"
VERSION_HEADER = "Steersman-Version"
TIMEOUT_S = 20.0
# The answers of a portal are shorter.
LARGEST_ANSWER_BYTES = 1 << 20
BINARY = "application/octet-stream"
# How much of a file is read at once.
BLOCK_BYTES = 1 << 18
# A proxy answers with these while the portal behind it starts, and a portal while its database is unavailable or it has
# too many requests.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
NOT_VALID = 422
# The code with which a portal closes a connection of another version.
OTHER_VERSION = 4426
WHERE_TOKENS_ARE = "make one with the scope train on the page of the project's tokens"


class PortalError(Exception):
    """A request that brought no answer to use. The text gives the reason and the remedy."""


class Unreachable(PortalError):
    """The portal did not answer: a later request may succeed."""


class Refused(PortalError):
    """The server at the address of the portal refused the request, and would refuse it again."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Said:
    """The error in an answer of the portal."""

    error: str = ""
    field: str = ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would send the token to another address."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        raise Refused(
            f"{req.full_url} redirects to {newurl}: give the scheme, host and prefix of that address instead.", code
        )


def check_login(login: Login) -> None:
    """Check that the portal accepts the token, and that the token may open runs. Raises `PortalError`."""
    try:
        # This request opens nothing, but the portal checks the token first.
        ask(login, RUNS, {})
    except Refused as error:
        if error.status != NOT_VALID:
            raise


def ask(login: Login, path: str, body: object, timeout_s: float = TIMEOUT_S) -> bytes:
    """Send a JSON object to a portal by POST; return the JSON that it answered. Raises `PortalError`."""
    return send(login, "POST", path, encode(body), timeout_s, kind="application/json")


def send(
    login: Login,
    method: str,
    path: str,
    data: bytes | None = None,
    timeout_s: float = TIMEOUT_S,
    kind: str = BINARY,
) -> bytes:
    """Send a request with a body of the content type `kind`; return the JSON of its answer. Raises `PortalError`."""
    try:
        answered, _ = answer_of(login, method, path, data, timeout_s, kind)
    except urllib.error.HTTPError as error:
        raise _refusal_in(login, error) from error
    try:
        json.loads(answered)
    except ValueError as error:
        raise Refused(not_a_portal(login.address)) from error
    return answered


def answer_of(
    login: Login,
    method: str,
    path: str,
    data: bytes | None = None,
    timeout_s: float = TIMEOUT_S,
    kind: str = BINARY,
    at_most: int = LARGEST_ANSWER_BYTES,
) -> tuple[bytes, str]:
    """Send a request; return its answer, at most so many bytes, and the content type of the answer.

    Raises `PortalError`, and `urllib.error.HTTPError` for an answer with the status of an error.
    """
    headers = {"Content-Type": kind, "Accept": "application/json"}
    try:
        with _opened(login, method, path, data, headers, timeout_s) as answer:
            answered: bytes = answer.read(at_most)
            return answered, answer.headers.get_content_type()
    except urllib.error.HTTPError:
        raise
    except (HTTPException, OSError) as error:
        raise unreachable(login.address, error) from error


def stream(login: Login, path: str, timeout_s: float = TIMEOUT_S) -> Iterator[bytes]:
    """Send a GET; yield the bytes of its answer in blocks. Raises `PortalError`: `Unreachable` if the answer is cut.

    `timeout_s` is how long to wait for each block.
    """
    left: int | None = None
    try:
        with _opened(login, "GET", path, None, {"Accept": BINARY}, timeout_s) as answer:
            if answer.headers.get_content_type() != BINARY:
                raise Refused(not_a_portal(login.address))
            length = answer.headers.get("Content-Length", "")
            left = int(length) if length.isdecimal() else None
            while block := answer.read(BLOCK_BYTES):
                left = left and left - len(block)
                yield block
    except urllib.error.HTTPError as error:
        raise _refusal_in(login, error) from error
    except (HTTPException, OSError) as error:
        raise unreachable(login.address, error) from error
    if left:
        raise Unreachable(f"The connection to {login.address} was interrupted.")


def _opened(
    login: Login, method: str, path: str, data: bytes | None, headers: Mapping[str, str], timeout_s: float
) -> HTTPResponse:
    """Send a request; return its answer to be read and closed. Raises `PortalError` and `urllib.error.HTTPError`."""
    own = {
        "Authorization": f"Bearer {login.token}",
        VERSION_HEADER: steersman.__version__,
        "User-Agent": f"steersman/{steersman.__version__}",
    }
    request = urllib.request.Request(login.address + path, data, {**own, **headers}, method=method)
    try:
        return cast(HTTPResponse, urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_s))
    except urllib.error.HTTPError:
        raise
    except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
        raise unreachable(login.address, error) from error


def unreachable(address: str, error: BaseException) -> PortalError:
    """Return the error for a connection to a portal that could not be opened."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Unreachable(
            f"The certificate of {address} is not trusted ({cause.verify_message}). If an authority of your own signed "
            "it, set SSL_CERT_FILE to the file with its certificate."
        )
    if isinstance(cause, ssl.SSLError):
        return Unreachable(
            f"{address} does not answer with TLS ({cause.reason or cause}): check the port, or give http:// if the "
            "portal has no TLS."
        )
    if isinstance(cause, socket.gaierror):
        return Unreachable(f"The host of {address} is not found ({cause.strerror}): check the address and the network.")
    if isinstance(cause, TimeoutError):
        return Unreachable(
            f"{address} does not answer in time: check the address, the network and the proxy variables."
        )
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return Unreachable(f"{address} cannot be reached ({reason}): check the address, and whether the portal is running.")


def not_a_portal(address: str) -> str:
    return f"No Steersman portal answers at {address}: check the address, with its prefix if the portal has one."


def refusal_of(address: str, status: int, said: str) -> PortalError:
    """Return the error for an answer with this status; `said` is the sentence of the portal, "" if there is none."""
    reason = said.strip()
    if status in PASSING:
        return Unreachable(f"{address} answers with status {status}" + (f": {reason}" if reason else "."))
    if status == 401:
        return Refused(f"{address} rejected this token, which is unknown or was revoked: {WHERE_TOKENS_ARE}.", status)
    if status == 404 and not reason:
        return Refused(not_a_portal(address), status)
    if status == 405:
        text = f"{address} accepts no trainings from other hosts: check the address, or upgrade the portal."
        return Refused(text, status)
    return Refused(f"{address} refuses: {reason}" if reason else f"{address} answers with status {status}.", status)


def _refusal_in(login: Login, error: urllib.error.HTTPError) -> PortalError:
    """Return the error for an answer with the status of an error, and close the answer."""
    with error:
        return refusal_of(login.address, error.code, said_in(text_of(error)))


def said_in(data: bytes) -> str:
    """Return the sentence in the JSON error of a portal, "" if it is none."""
    try:
        found = decode(_Said, data)
    except Malformed:
        return ""
    return f"{found.field}: {found.error}" if found.field and found.field != "Authorization" else found.error


def text_of(error: urllib.error.HTTPError) -> bytes:
    """Return the body of an answer with the status of an error, b"" if it cannot be read."""
    try:
        return error.read(LARGEST_ANSWER_BYTES)
    except (OSError, HTTPException):
        return b""
