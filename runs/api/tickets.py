"""Tickets: single-use keys to the socket of a run."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Router

from runs.access.addresses import address_of
from runs.access.tickets import TICKET_LIFETIME, issue_ticket
from runs.access.tokens import digest
from runs.api.callers import READERS, caller_of
from runs.api.errors import ApiError, no_such_run
from runs.api.schemas.errors import ErrorOut
from runs.api.schemas.tickets import TicketOut
from runs.live.socket_limits import TICKET_WAIT_S, TicketRate
from runs.models import LARGEST_ID

router = Router(tags=["tickets"])
LARGEST_BODY_BYTES = 4096
BODY = {
    "type": "object",
    "required": ["run"],
    "properties": {"run": {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}},
}

rate = TicketRate()


def within_rate(request: HttpRequest) -> None:
    """Refuse clients that send too many requests, before the session or token is looked up. Raises `ApiError`."""
    if not rate.let_in(address_of(request) or "", *_presented(request)):
        text = _("Too many tickets were requested: try again in %(seconds)d seconds.") % {"seconds": TICKET_WAIT_S}
        raise ApiError(429, text, retry_after_s=TICKET_WAIT_S)


@router.post(
    "/",
    url_name="tickets",
    auth=[within_rate, *READERS],
    response={200: TicketOut, 401: ErrorOut, 403: ErrorOut, 404: ErrorOut, 422: ErrorOut, 429: ErrorOut},
    summary="A single-use key to one run's socket",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": BODY}}}},
)
def new_ticket(request: HttpRequest) -> dict[str, Any]:
    """Valid once, within 30 seconds, for that run, while the session, token or share link behind it is valid."""
    rate.note_known(*_presented(request))
    run_id = _run_id(request)
    if run_id is None:
        raise ApiError(422, _('Send JSON that names the run by its number, such as {"run": 1}.'), "run")
    caller = caller_of(request)
    run = caller.runs().filter(pk=run_id).first()
    if run is None:
        raise no_such_run()
    session_key = "" if caller.token else request.session.session_key or ""
    ticket = issue_ticket(caller.user, run, session_key, caller.token)
    return {"ticket": ticket, "expires_in_s": int(TICKET_LIFETIME.total_seconds())}


def _presented(request: HttpRequest) -> tuple[str, str]:
    """Return the kind of a request's credential and a value that identifies it. The key of a session is a secret."""
    header = request.headers.get("Authorization", "")
    if header:
        return "token", digest(header)
    return "user", digest(request.COOKIES.get(settings.SESSION_COOKIE_NAME, ""))


def _run_id(request: HttpRequest) -> int | None:
    if len(request.body) > LARGEST_BODY_BYTES:
        return None
    try:
        payload: Any = json.loads(request.body)
    except (ValueError, RecursionError):
        return None
    run_id = payload.get("run") if isinstance(payload, dict) else None
    return run_id if type(run_id) is int and 0 < run_id <= LARGEST_ID else None
