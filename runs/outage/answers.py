"""The answer 503: a page for people, JSON for programs, both with the time after which to retry."""

from __future__ import annotations

import sys

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import SimpleTemplateResponse
from django.utils.translation import get_language_from_request, override
from django.utils.translation import gettext as _
from django.views import defaults

from runs.outage.causes import Outage, outage_of
from runs.outage.database_watch import database_watch

API = "/api/"
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
    """Answer 503, without a query and without depending on other middleware."""
    with override(get_language_from_request(request)):
        response: HttpResponse
        if request.path_info.startswith(API) or not request.accepts("text/html"):
            response = JsonResponse({"error": sentence(outage), "field": ""}, status=503)
        else:
            # The page only repeats GET requests automatically.
            context = {"sentence": sentence(outage), "retry_s": RETRY_AFTER_S if request.method == "GET" else None}
            response = SimpleTemplateResponse("503.html", context, status=503).render()
    response["Retry-After"] = str(RETRY_AFTER_S)
    return response


def outage_answer(request: HttpRequest, error: BaseException | None) -> HttpResponse | None:
    """Return the answer to a request that failed with `error`, None if the cause was not an outage of the database."""
    outage = noted_outage(error)
    return unavailable(request, outage) if outage else None


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer a request whose view failed, as Django's `handler500`."""
    return outage_answer(request, sys.exception()) or defaults.server_error(request)
