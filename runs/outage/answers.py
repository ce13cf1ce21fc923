"""The answer 503: a page for people, JSON for programs, both with the time after which to retry."""

from __future__ import annotations

import json
import re
import sys
import time

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.template.response import SimpleTemplateResponse
from django.utils.translation import get_language_from_request, override
from django.utils.translation import gettext as _
from django.views import defaults

from runs.outage.causes import UNAVAILABLE, Outage, outage_of
from runs.outage.database_watch import database_watch
from runs.outage.last_known import Answer, last_known

API = "/api/"
HTML, JSON = "text/html", "application/json"
# The time of an answer that is repeated during an outage.
LAST_KNOWN_HEADER = "Steersman-Last-Known"
MAIN = re.compile(rb"<main\b[^>]*>")
RETRY_AFTER_S = 2


def noted_outage(error: BaseException | None) -> Outage | None:
    """Return the result of `outage_of`, and notify the whole process of an unavailable database."""
    outage = outage_of(error)
    if outage is Outage.AWAY:
        database_watch.note_unavailable(error)
    return outage


def sentence(outage: Outage) -> str:
    if outage is Outage.BUSY:
        return _("The database is busy: another process writes to it. Try again in a moment.")
    if outage is Outage.UNCHANGEABLE:
        return _(
            "The database cannot be changed now: it is read-only, or its disk is full. Trainings continue, and their "
            "points are safe on their hosts."
        )
    return _(
        "The database does not answer now. Trainings continue, and their points are safe on their hosts. Try again in "
        "a moment."
    )


def unavailable(request: HttpRequest, outage: Outage = Outage.AWAY) -> HttpResponse:
    """Answer 503, without a query and without depending on other middleware.

    If the reader got an answer to the same request before the outage, it is repeated as the last known state.
    """
    since_s = database_watch.unavailable_since_s
    known = last_known.of(request, time.monotonic() if since_s is None else since_s)
    with override(get_language_from_request(request)):
        if request.path_info.startswith(API) or not request.accepts("text/html"):
            response = _of_api(outage, known)
        elif known is not None and known.content_type.startswith(HTML):
            response = _repeated(known, _marked(known, outage), "Referrer-Policy", "X-Robots-Tag")
        else:
            # The page only repeats GET requests automatically.
            context = {"sentence": sentence(outage), "retry_s": RETRY_AFTER_S if request.method == "GET" else None}
            response = SimpleTemplateResponse("503.html", context, status=UNAVAILABLE).render()
    if known is not None:
        response[LAST_KNOWN_HEADER] = known.at.isoformat()
    response["Retry-After"] = str(RETRY_AFTER_S)
    response["Cache-Control"] = "no-store"
    return response


def _of_api(outage: Outage, known: Answer | None) -> HttpResponse:
    """Return the error in JSON with the last known answer, or this answer alone if it is not JSON."""
    error = {"error": sentence(outage), "field": ""}
    if known is None:
        return JsonResponse(error, status=UNAVAILABLE)
    if not known.content_type.startswith(JSON):
        return _repeated(known, known.body, "Content-Encoding")
    return JsonResponse(error | {"last_known": json.loads(known.plain), "at": known.at}, status=UNAVAILABLE)


def _repeated(known: Answer, body: bytes, *headers: str) -> HttpResponse:
    """Return 503 with the last known body and some of its headers."""
    own = {name: known.headers[name] for name in headers if name in known.headers}
    return HttpResponse(body, known.content_type, UNAVAILABLE, headers=own)


def _marked(known: Answer, outage: Outage) -> bytes:
    """Return a page with a notice at the beginning of its content."""
    notice = render_to_string("partials/last_known.html", {"sentence": sentence(outage), "at": known.at})
    return MAIN.sub(lambda found: found[0] + notice.encode(), known.plain, count=1)


def outage_answer(request: HttpRequest, error: BaseException | None) -> HttpResponse | None:
    """Return the answer to a request that failed with `error`, None if the cause was not an outage of the database."""
    outage = noted_outage(error)
    return unavailable(request, outage) if outage else None


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer a request whose view failed, as Django's `handler500`."""
    return outage_answer(request, sys.exception()) or defaults.server_error(request)
