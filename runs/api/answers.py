"""Rules for every answer: only known query fields are accepted, safe answers are compressed, shared caches are
excluded.

Large answers have an `ETag`: a client that has the same one gets 304 instead of the answer, and concurrent requests
share one answer.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import wraps
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import msgspec
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.middleware.gzip import GZipMiddleware
from django.utils.cache import add_never_cache_headers, patch_cache_control, patch_vary_headers
from django.utils.http import parse_etags
from django.utils.translation import gettext as _
from ninja import NinjaAPI
from ninja.operation import Operation

from runs.api.compression import compressed
from runs.api.errors import ApiError

Answering = Callable[..., HttpResponse]

JSON = "application/json; charset=utf-8"
BINARY = "application/octet-stream"
# For short answers: it returns the content as it is if that is shorter.
_gzip = GZipMiddleware(lambda request: HttpResponse())
LONG_ANSWER_BYTES = 16_384


def _fingerprint() -> str:
    """Return a hash of the code's files, because other code may give other answers."""
    found = blake2b(digest_size=16)
    for path in sorted(Path(__file__).resolve().parents[1].rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


_CODE = _fingerprint()


@dataclass(frozen=True, slots=True)
class QueryFields:
    """The query fields of an operation: all of them, and those that may be repeated."""

    known: tuple[str, ...]
    repeatable: frozenset[str]

    @classmethod
    def of(cls, operation: Operation) -> QueryFields:
        known: list[str] = []
        repeatable: set[str] = set()
        for model in operation.models:
            # Django Ninja's models have the fields of each parameter as attributes of the class.
            found = cast(Any, model)
            if found.__ninja_param_source__ == "query":
                known += found.__ninja_flatten_map__
                repeatable.update(found.__ninja_collection_fields__)
        return cls(tuple(known), frozenset(repeatable))

    def check(self, request: HttpRequest) -> None:
        """Refuse fields that the operation does not have, that are repeated, or that no database accepts.

        If a misspelled field were ignored, the answer would be to another question.
        """
        for field, values in request.GET.lists():
            if field not in self.known:
                raise ApiError(422, self._unknown(field), field[:100])
            if len(values) > 1 and field not in self.repeatable:
                raise ApiError(422, _("Give %(field)s once.") % {"field": field}, field)
            if any("\0" in value for value in values):
                raise ApiError(422, _("Remove the NUL character: no field accepts it."), field)

    def _unknown(self, field: str) -> str:
        if not self.known:
            return _("Unknown field %(field)s: this address takes no fields.") % {"field": repr(field[:100])}
        parts = {"field": repr(field[:100]), "known": ", ".join(self.known)}
        return _("Unknown field %(field)s: this address takes %(known)s.") % parts


class Api(NinjaAPI):
    """The API with the rules for all its operations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_decorator(_answering, mode="view")

    def create_temporal_response(self, request: HttpRequest) -> HttpResponse:
        # Called after authentication and before the parameters are parsed: unauthenticated clients learn of no field.
        fields: QueryFields = request.query_fields  # type: ignore[attr-defined]
        fields.check(request)
        return super().create_temporal_response(request)


def _answering(run: Answering) -> Answering:
    fields = QueryFields.of(run.__self__)  # type: ignore[attr-defined]

    @wraps(run)
    def answer(request: HttpRequest, **parameters: Any) -> HttpResponse:
        request.query_fields = fields  # type: ignore[attr-defined]
        response = run(request, **parameters)
        # An answer depends on the caller and the moment. A client may cache an answer that it can revalidate.
        if response.has_header("ETag"):
            patch_cache_control(response, private=True, no_cache=True)
            patch_vary_headers(response, ("Accept-Encoding", "Authorization", "Cookie"))
        else:
            add_never_cache_headers(response)
        return _compressed(request, response)

    return answer


def _compressed(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Compress the answer to a GET request.

    The length of a compressed answer can reveal a secret in it to an attacker who chooses text in the same answer
    (BREACH, CVE-2013-3587). Answers to GET contain no secrets: tokens are stored as hashes, and a ticket, which opens a
    socket, comes from a POST. Errors quote the request and are short, so they are not compressed.
    """
    if request.method != "GET" or response.status_code != 200:
        return response
    if response.streaming:
        # A file, which hardly compresses.
        return response
    if len(response.content) >= LONG_ANSWER_BYTES and _accepts_gzip(request) and "Content-Encoding" not in response:
        response.content = compressed(response.content)
        response.headers["Content-Encoding"] = "gzip"
        patch_vary_headers(response, ("Accept-Encoding",))
        return response
    return cast(HttpResponse, _gzip.process_response(request, response))


def _accepts_gzip(request: HttpRequest) -> bool:
    return "gzip" in request.headers.get("Accept-Encoding", "")


def encoded(value: dict[str, Any]) -> HttpResponse:
    """Return the answer of an operation whose value consists of JSON types.

    Used for history and points, because a schema would validate hundreds of thousands of numbers. Tests compare these
    answers with their schemas.
    """
    return HttpResponse(msgspec.json.encode(value), content_type=JSON)


def tag_of(*parts: Any) -> str:
    """Return the weak `ETag` (RFC 9110, section 8.8) of an answer that these JSON-ready values, or bytes, determine."""
    return f'W/"{blake2b(msgspec.json.encode([_CODE, *parts]), digest_size=16).hexdigest()}"'


def if_changed(request: HttpRequest, tag: str, answer: Callable[[], HttpResponse]) -> HttpResponse:
    """Return 304 if the client has the answer with this tag, else the answer with its tag.

    An answer that already has a tag keeps it.
    """
    held = parse_etags(request.headers.get("If-None-Match", ""))
    # Compared as weak tags, because a proxy may have changed the encoding, and with it the kind of tag.
    if tag.removeprefix("W/") in {one.removeprefix("W/") for one in held}:
        return HttpResponseNotModified(headers={"ETag": tag})
    response = answer()
    response.headers.setdefault("ETag", tag)
    return response


class SharedAnswer:
    """The encoded answer to identical requests; `began` is when reading began."""

    def __init__(self, tag: str, body: bytes, began: float) -> None:
        self.tag, self.body, self.began = tag, body, began
        self._packed: bytes | None = None
        self._packing = threading.Lock()

    def response(self, request: HttpRequest, content_type: str = JSON) -> HttpResponse:
        """Return the response, compressed once for all clients that accept it: each compression has another random
        length.
        """
        response = HttpResponse(self.body, content_type=content_type, headers={"ETag": self.tag})
        if _accepts_gzip(request):
            response.content = self._pack()
            response.headers["Content-Encoding"] = "gzip"
        return response

    def _pack(self) -> bytes:
        with self._packing:
            if self._packed is None:
                self._packed = compressed(self.body)
            return self._packed


class SharedAnswers:
    """Answers to concurrent identical requests: each is read once, and the newest ones are kept.

    At most `most_bytes` of bodies are kept (compressed copies add a third at most), and one per key.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, SharedAnswer] = OrderedDict()
        self._lock = threading.Lock()
        # Identical requests wait for one reader. Two different keys rarely share a lock, and then take turns.
        self._reading = tuple(threading.Lock() for _ in range(64))

    def get(self, key: Hashable, tag: str, read: Callable[[], tuple[str, bytes]]) -> SharedAnswer:
        """Return the answer of `key` with this `tag`, or a newer one; `read` returns tag and body.

        An answer whose reading began after this call is as new as one that is read for this caller alone.
        """
        arrived = time.monotonic()
        if (kept := self._find(key, tag, arrived)) is not None:
            return kept
        with self._reading[hash(key) % len(self._reading)]:
            if (kept := self._find(key, tag, arrived)) is not None:
                return kept
            began = time.monotonic()
            found = SharedAnswer(*read(), began)
            self._keep(key, found)
            return found

    def _find(self, key: Hashable, tag: str, arrived: float) -> SharedAnswer | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or (kept.tag != tag and kept.began <= arrived):
                return None
            self._kept.move_to_end(key)
            return kept

    def _keep(self, key: Hashable, answer: SharedAnswer) -> None:
        with self._lock:
            before = self._kept.pop(key, None)
            self._kept[key] = answer
            self._bytes += len(answer.body) - (len(before.body) if before else 0)
            while self._bytes > self._most_bytes:
                self._bytes -= len(self._kept.popitem(last=False)[1].body)


def with_query(request: HttpRequest, **changed: str | None) -> str:
    """Return the address of the request, without the host, with some query fields changed; None leaves one out."""
    query = request.GET.copy()
    for field, value in changed.items():
        if value is None:
            query.pop(field, None)
        else:
            query[field] = value
    return f"{request.path}?{query.urlencode()}"
