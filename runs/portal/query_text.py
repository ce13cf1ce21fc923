"""Refuses addresses with the character NUL, which no text here contains and PostgreSQL does not accept."""

from __future__ import annotations

from django.core.exceptions import BadRequest
from django.http import HttpRequest
from django.utils.deprecation import MiddlewareMixin

API = "/api/"


class NulInQuery(BadRequest):
    """A field of an address contains NUL; its name is the argument."""


class RefuseNul(MiddlewareMixin):
    """Answers 400 to a request with NUL in its query or a header, before anything queries or stores it.

    The API reports such fields itself, and forms report the fields that were sent.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Raise `BadRequest` for NUL in a header, `NulInQuery` for it in the query."""
        for name, value in request.headers.items():
            if "\0" in value:
                raise BadRequest(name)
        if request.path_info.startswith(API):
            return
        for name, values in request.GET.lists():
            if any("\0" in text for text in (name, *values)):
                raise NulInQuery(name.replace("\0", ""))
