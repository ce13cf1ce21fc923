"""The page of a link in a message: it shows the action, and a button does it once."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_http_methods

from runs.access.roles import display_name
from runs.access.tokens import digest
from runs.alerts.wording.texts import action_text, texts_of
from runs.portal.alerting.acting import CannotAct, Found, act, actor_of, find, now_of, viewer_for, words_of

NONCE_SALT = "runs.portal.alerting.links"
# How long a page may be open before its button is pressed.
NONCE_AGE_S = 3600


@require_http_methods(["GET", "HEAD", "POST"])
def alert_link(request: HttpRequest, token: str) -> HttpResponse:
    """Show what the link would do, and do it by POST from that page. A GET request never changes anything."""
    try:
        response = _answer(request, token)
    except CannotAct as reason:
        context = {"title": reason.title, "remedy": reason.remedy, "run_id": reason.run_id}
        response = render(request, "alerting/link_refused.html", context, status=reason.status)
    # The address contains the key, like that of a share link: see there.
    response["Referrer-Policy"] = "strict-origin"
    response["X-Robots-Tag"] = "noindex"
    add_never_cache_headers(response)
    return response


def _answer(request: HttpRequest, token: str) -> HttpResponse:
    found = find(token)
    actor = actor_of(found, request.user)
    if actor is None:
        return render(request, "alerting/link_sign_in.html", status=401 if request.method == "POST" else 200)
    viewer = viewer_for(found, actor)
    if request.method != "POST":
        return _confirm(request, token, found, actor)
    if not _is_of_page(request.POST.get("nonce", ""), token, actor):
        return _confirm(request, token, found, actor, is_old=True)
    outcome = act(token, found, viewer)
    context = {"who": viewer.name, "outcome": outcome, **_facts(found)}
    return render(request, "alerting/link_done.html", context)


def _confirm(request: HttpRequest, token: str, found: Found, actor: User, is_old: bool = False) -> HttpResponse:
    context = {
        **_facts(found),
        "words": words_of(found),
        "who": display_name(actor),
        "now": now_of(found),
        "rule_did": action_text(found.alert),
        "nonce": _nonce(token, actor),
        "is_old": is_old,
    }
    return render(request, "alerting/link.html", context, status=409 if is_old else 200)


def _facts(found: Found) -> dict[str, object]:
    return {"run": found.run, "alert": found.alert, "title": texts_of(found.alert).title}


def _nonce(token: str, actor: User) -> str:
    """Return a value that the page sends back; it expires, and is invalid for another link or person."""
    return signing.dumps([digest(token), actor.pk], salt=NONCE_SALT)


def _is_of_page(nonce: str, token: str, actor: User) -> bool:
    try:
        held: object = signing.loads(nonce, salt=NONCE_SALT, max_age=NONCE_AGE_S)
    except signing.BadSignature:
        return False
    return held == [digest(token), actor.pk]
