"""`GET /metrics`: the response for Prometheus, with a token of the scope `metrics` or from an allowed address."""

from __future__ import annotations

import logging

from django.conf import settings
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from runs.access.addresses import address_of, exact_address
from runs.access.guesses import TooManyGuesses, lookups
from runs.metrics.collect import Shown, collect
from runs.metrics.portal_tally import tally
from runs.models import TokenScope
from runs.outage.answers import RETRY_AFTER_S

logger = logging.getLogger(__name__)

PLAIN = "text/plain; charset=utf-8"
# The token of a share link does not count as a token here, as in the API.
OF_SCRIPTS = tuple(scope for scope in TokenScope if scope != TokenScope.SHARE)
# The headers in which proxies name their client.
FORWARDING = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA", "HTTP_X_FORWARDED_PROTO")


class Refused(Exception):
    """The caller gets no metrics. The text says why, and what to do."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics in Prometheus's text format, or in OpenMetrics if the client accepts it."""
    try:
        shown = shown_to(request)
    except Refused as refused:
        response = HttpResponse(f"{refused}\n", status=refused.status, content_type=PLAIN)
        if refused.status == 401:
            response["WWW-Authenticate"] = "Bearer"
        return response
    try:
        tally.write()
    except DatabaseError as error:
        logger.debug("the counts of this process could not be written: %s", error)
    registry = CollectorRegistry(auto_describe=False)
    try:
        registry.register(collect(shown))
    except DatabaseError as error:
        logger.warning("/metrics could not be answered: %s", error)
        response = HttpResponse(
            _("The database does not answer: try again later.") + "\n", status=503, content_type=PLAIN
        )
        response["Retry-After"] = str(RETRY_AFTER_S)
        return response
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)


def shown_to(request: HttpRequest) -> Shown:
    """Return the scope of the caller. Raises `Refused`."""
    header = request.headers.get("Authorization", "")
    if not header:
        return _shown_to_address(request)
    scheme, _mark, value = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(401, _("Send the token as `Authorization: Bearer stm_…`."))
    try:
        token = lookups.find(value.strip(), OF_SCRIPTS, address_of(request) or "")
    except TooManyGuesses as error:
        text = _(
            "Too many requests with unknown tokens came from your address: correct your token, and try again in a "
            "minute."
        )
        raise Refused(429, text) from error
    if token is None:
        raise Refused(401, _("This token is unknown, expired or revoked: make a new one with the scope metrics."))
    if token.scope != TokenScope.METRICS:
        raise Refused(403, _("This token has another scope: make a token with the scope metrics."))
    return Shown(token.project_id, token.run_id)


def _shown_to_address(request: HttpRequest) -> Shown:
    """Return the scope of an allowed address, which is all projects. Raises `Refused`.

    The client's address is known if there is no proxy, or if the proxy is trusted (STEERSMAN_TLS). Behind any other
    proxy, all requests come from the proxy's address, so allowing it would admit everybody.
    """
    forwarded_for = request.META.get("HTTP_X_FORWARDED_FOR", "")
    is_forwarded = any(name in request.META for name in FORWARDING)
    if is_forwarded and not (settings.BEHIND_TLS and forwarded_for):
        raise Refused(401, _("The request came through a proxy that is not trusted to report addresses: send a token."))
    address = exact_address(request.META.get("REMOTE_ADDR", ""), forwarded_for)
    if address is not None and any(address in network for network in settings.STEERSMAN_METRICS_FROM):
        return Shown()
    raise Refused(
        401,
        _(
            "Send a token with the scope metrics as `Authorization: Bearer stm_…`, or send the request from an "
            "address that STEERSMAN_METRICS_FROM allows."
        ),
    )
