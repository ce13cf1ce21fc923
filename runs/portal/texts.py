"""The translations for scripts, at an address that changes with their content, so that browsers keep them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.translation import get_language, override
from django.views.decorators.http import require_safe
from django.views.i18n import JavaScriptCatalog

DIGEST_CHARACTERS = 16
KEPT = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The translations for scripts into one language, plain and compressed."""

    script: bytes
    packed: bytes
    digest: str


def texts_address(request: HttpRequest) -> dict[str, Callable[[], str]]:
    """Context processor: the address of the translations into the language of the page."""
    return {"texts_address": _address}


@require_safe
def texts(request: HttpRequest, language: str = "", digest: str = "") -> HttpResponse:
    """Return the translations for scripts.

    Browsers keep them only at the address of their content. A page of another version, and the address without a
    digest, which pages loaded earlier, get the current ones and ask again each time.
    """
    language = language or _language()
    if language not in dict(settings.LANGUAGES):
        raise Http404
    catalogue = _catalogue(language)
    is_packed = "gzip" in request.headers.get("Accept-Encoding", "")
    response = HttpResponse(catalogue.packed if is_packed else catalogue.script, 'text/javascript; charset="utf-8"')
    if is_packed:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Content-Language"] = language
    response.headers["Cache-Control"] = KEPT if digest == catalogue.digest else "no-cache"
    # Weak, because it is the same for both forms.
    etag = response.headers["ETag"] = f'W/"{language}-{catalogue.digest}"'
    patch_vary_headers(response, ["Accept-Encoding"])
    return get_conditional_response(request, etag=etag, response=response) or response


def _address() -> str:
    language = _language()
    return reverse("texts", args=[language, _catalogue(language).digest])


def _language() -> str:
    return get_language() or settings.LANGUAGE_CODE


def _catalogue(language: str) -> Catalogue:
    # The development server reads changed translations without a restart.
    return _built(language) if settings.DEBUG else _built_once(language)


@cache
def _built_once(language: str) -> Catalogue:
    return _built(language)


def _built(language: str) -> Catalogue:
    with override(language):
        script = JavaScriptCatalog(packages=["runs"]).get(HttpRequest()).content
    digest = hashlib.sha256(script).hexdigest()[:DIGEST_CHARACTERS]
    return Catalogue(script, gzip.compress(script, mtime=0), digest)
