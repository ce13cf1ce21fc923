"""How every operation answers: to known query fields alone, kept by no cache, compressed where that is safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, cast

import msgspec
from django.http import HttpRequest, HttpResponse
from django.middleware.gzip import GZipMiddleware
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _
from ninja import NinjaAPI
from ninja.operation import Operation

from runs.api.errors import ApiError

Answering = Callable[..., HttpResponse]

# Its answers differ in length by up to 100 random bytes, which hides from a listener what compressed well.
_gzip = GZipMiddleware(lambda request: HttpResponse())


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
            # The library's models carry what it found of each parameter as attributes of the class.
            found = cast(Any, model)
            if found.__ninja_param_source__ == "query":
                known += found.__ninja_flatten_map__
                repeatable.update(found.__ninja_collection_fields__)
        return cls(tuple(known), frozenset(repeatable))

    def check(self, request: HttpRequest) -> None:
        """Refuse fields that the operation does not have, that come twice, or that no database takes.

        A misspelled field that is passed over would answer another question than was asked.
        """
        for field, values in request.GET.lists():
            if field not in self.known:
                raise ApiError(422, self._unknown(field), field[:100])
            if len(values) > 1 and field not in self.repeatable:
                raise ApiError(422, _("Give %(field)s once.") % {"field": field}, field)
            if any("\0" in value for value in values):
                raise ApiError(422, _("Leave out the character NUL: no text here has it."), field)

    def _unknown(self, field: str) -> str:
        if not self.known:
            return _("There is no field %(field)s: this address takes none.") % {"field": repr(field[:100])}
        parts = {"field": repr(field[:100]), "known": ", ".join(self.known)}
        return _("There is no field %(field)s: this address knows %(known)s.") % parts


class Api(NinjaAPI):
    """The API with what holds for each of its operations, so that none can be without it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_decorator(_answering, mode="view")

    def create_temporal_response(self, request: HttpRequest) -> HttpResponse:
        # Called when it is known who asks and before the parameters are read: strangers learn of no field.
        fields: QueryFields = request.query_fields  # type: ignore[attr-defined]
        fields.check(request)
        return super().create_temporal_response(request)


def _answering(run: Answering) -> Answering:
    fields = QueryFields.of(run.__self__)  # type: ignore[attr-defined]

    @wraps(run)
    def answer(request: HttpRequest, **parameters: Any) -> HttpResponse:
        request.query_fields = fields  # type: ignore[attr-defined]
        response = run(request, **parameters)
        # What is told is for the caller of that moment.
        add_never_cache_headers(response)
        return _compressed(request, response)

    return answer


def _compressed(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Compress what a GET found.

    The length of a compressed answer betrays a secret in it where a stranger chooses text beside it (BREACH,
    CVE-2013-3587). What GET finds holds no secret: tokens are kept as hashes, and a ticket, which opens a socket, comes
    from a POST. Errors repeat what was asked, and are short: both stay as they are.
    """
    if request.method != "GET" or response.status_code != 200:
        return response
    return cast(HttpResponse, _gzip.process_response(request, response))


def encoded(value: dict[str, Any]) -> HttpResponse:
    """Return the answer of an operation whose value is built of what JSON has.

    Of history and points: a schema would look at each of some hundred thousand numbers. Tests hold them to theirs.
    """
    return HttpResponse(msgspec.json.encode(value), content_type="application/json; charset=utf-8")
