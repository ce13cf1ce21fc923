"""The last answers to each reader, repeated while the database is unavailable.

A reader only gets what this process sent to the same session or token shortly before the outage, so that no permission
has to be checked without the database. Only the answers of the views in `PAGES` and of the API are kept: other pages
may show a secret once.
"""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.decorators import sync_and_async_middleware
from django.utils.translation import get_language_from_request

PAGES = frozenset({"runs", "run", "project", "compare", "compare_curves", "compare_importance", "share"})
API = "api"
# How old an answer may be when the outage begins: a permission may have been revoked since then.
LONGEST_BEFORE_S = 600.0
# An outage may not last longer: a permission may be revoked during it.
LONGEST_OUTAGE_S = 3600.0
KEPT_HEADERS = ("Content-Type", "Content-Encoding", "Referrer-Policy", "X-Robots-Tag")
# What an answer takes beside its body.
OWN_BYTES = 1024
# The history of a run takes up to 900 kB.
LARGEST_ANSWER_BYTES = 2 << 20
ALL_ANSWERS_BYTES = 32 << 20

Key = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer with some of its headers. `sent_s` is by `time.monotonic`."""

    body: bytes
    headers: dict[str, str]
    etag: str
    at: datetime
    sent_s: float

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "")

    @property
    def plain(self) -> bytes:
        """Return the body without compression."""
        return gzip.decompress(self.body) if self.headers.get("Content-Encoding") == "gzip" else self.body

    @property
    def size(self) -> int:
        return len(self.body) + OWN_BYTES


class LastKnown:
    """The last answers of a process, up to a limit in bytes; the oldest are dropped. Safe to use from any thread."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def note(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Keep the answer to a request; drop an earlier one if the reader may not see it now."""
        if request.method != "GET" or response.status_code >= 500:
            return
        key = _key(request)
        if response.status_code == 304:
            self._confirm(key, response.get("ETag", ""))
        elif response.status_code == 200 and _is_kept(request) and isinstance(response, HttpResponse):
            self._put(key, response)
        else:
            self._drop(key)

    def of(self, request: HttpRequest, since_s: float) -> Answer | None:
        """Return the last answer to the same request of the same reader, in an outage since `since_s`, or None."""
        if request.method != "GET":
            return None
        with self._lock:
            found = self._answers.get(_key(request))
        is_recent = found is not None and found.sent_s >= since_s - LONGEST_BEFORE_S
        return found if is_recent and time.monotonic() - since_s < LONGEST_OUTAGE_S else None

    def forget_reader(self, request: HttpRequest) -> None:
        """Drop all answers to the session or token of `request`."""
        reader = _reader(request)
        with self._lock:
            for key in [key for key in self._answers if key[0] == reader]:
                self._remove(key)

    def clear(self) -> None:
        with self._lock:
            self._answers.clear()
            self._bytes = 0

    def _put(self, key: Key, response: HttpResponse) -> None:
        headers = {name: response[name] for name in KEPT_HEADERS if name in response}
        answer = Answer(response.content, headers, response.get("ETag", ""), timezone.now(), time.monotonic())
        with self._lock:
            self._remove(key)
            if len(answer.body) > LARGEST_ANSWER_BYTES:
                return
            self._answers[key] = answer
            self._bytes += answer.size
            while self._bytes > ALL_ANSWERS_BYTES:
                self._remove(next(iter(self._answers)))

    def _confirm(self, key: Key, etag: str) -> None:
        """Record that an answer has not changed."""
        with self._lock:
            found = self._answers.get(key)
            if found is not None and found.etag == etag:
                self._answers[key] = replace(found, at=timezone.now(), sent_s=time.monotonic())
                self._answers.move_to_end(key)

    def _drop(self, key: Key) -> None:
        with self._lock:
            self._remove(key)

    def _remove(self, key: Key) -> None:
        """Remove an answer, if it is there. The caller holds the lock."""
        found = self._answers.pop(key, None)
        if found is not None:
            self._bytes -= found.size


def _is_kept(request: HttpRequest) -> bool:
    match = request.resolver_match
    return match is not None and (match.view_name in PAGES or API in match.namespaces)


def _key(request: HttpRequest) -> Key:
    # A share link has its key in its path.
    asked = (request.get_full_path(), request.headers.get("X-Requested-With", ""), get_language_from_request(request))
    return _reader(request), _digest(*asked)


def _reader(request: HttpRequest) -> bytes:
    return _digest(request.COOKIES.get(settings.SESSION_COOKIE_NAME, ""), request.headers.get("Authorization", ""))


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).digest()


last_known = LastKnown()


def _forget(sender: Any, request: HttpRequest | None, **kwargs: Any) -> None:
    if request is not None:
        last_known.forget_reader(request)


user_logged_out.connect(_forget, dispatch_uid="last-known-logged-out")


@sync_and_async_middleware
def keeps_answers(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: keeps the answers for `last_known`."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            response: HttpResponseBase = await get_response(request)
            last_known.note(request, response)
            return response

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = get_response(request)
        last_known.note(request, response)
        return response

    return answer
