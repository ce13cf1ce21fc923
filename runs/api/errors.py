"""Errors of the JSON API: a status, a sentence and the field with the error. No traceback is sent."""

from __future__ import annotations

import logging
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from runs.commands.record import NotAllowed
from runs.outage.answers import outage_answer
from runs.protocol.commands import InvalidCommand

logger = logging.getLogger(__name__)

# The default for clients that send too many requests.
RETRY_AFTER_S = 60


class ApiError(Exception):
    """Answered with `status` and `{"error": message, "field": field}`; 429 and 503 say when to retry."""

    def __init__(self, status: int, message: str, field: str = "", retry_after_s: int = RETRY_AFTER_S) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.retry_after_s = retry_after_s


def refuse(status: int, error: str, field: str = "", retry_after_s: int = RETRY_AFTER_S) -> JsonResponse:
    response = JsonResponse({"error": error, "field": field}, status=status)
    if status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        response["Retry-After"] = str(retry_after_s)
    return response


def no_such_run() -> ApiError:
    return ApiError(404, _("There is no such run, or you are not a member of its project."), "run")


def no_such_address(request: HttpRequest) -> HttpResponse:
    """Answer unknown addresses under /api/."""
    return refuse(404, _("The API has no such address. All addresses are listed at /api/docs/."))


def answer_errors_of(api: NinjaAPI) -> None:
    """Give all errors of `api` the same form."""

    def answer(kind: type[Exception]) -> Any:
        return api.exception_handler(kind)

    @answer(ApiError)
    def own(request: HttpRequest, error: ApiError) -> HttpResponse:
        return refuse(error.status, str(error), error.field, error.retry_after_s)

    @answer(AuthenticationError)
    def unknown_caller(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
        text = _("The session has ended: log in again. Scripts must send the header Authorization: Bearer TOKEN.")
        return refuse(401, text)

    @answer(ValidationError)
    def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
        first = error.errors[0]
        names = [str(part) for part in first["loc"][1:] if isinstance(part, str)]
        field = names[-1] if names else "body"
        # Our own checks have a complete message.
        own_words = first.get("ctx", {}).get("error") if first["type"] == "value_error" else None
        return refuse(422, own_words or f"{field}: {first['msg']}.", field)

    @answer(InvalidCommand)
    def invalid_command(request: HttpRequest, error: InvalidCommand) -> HttpResponse:
        return refuse(422, str(error), error.field)

    @answer(NotAllowed)
    def not_allowed(request: HttpRequest, error: NotAllowed) -> HttpResponse:
        return refuse(409 if error.field == "id" else 403, str(error), error.field)

    @answer(Http404)
    def not_found(request: HttpRequest, error: Http404) -> HttpResponse:
        return no_such_address(request)

    @answer(HttpError)
    def refused(request: HttpRequest, error: HttpError) -> HttpResponse:
        if error.status_code == 400:  # the library's message about a body that cannot be parsed
            return refuse(422, _("Send a JSON object."), "body")
        return refuse(error.status_code, str(error))

    @answer(Exception)
    def failed(request: HttpRequest, error: Exception) -> HttpResponse:
        if (unavailable := outage_answer(request, error)) is not None:
            return unavailable
        logger.error("the API could not answer %s %s", request.method, request.path, exc_info=error)
        return refuse(500, _("The server failed to answer this request. The error was logged."))
