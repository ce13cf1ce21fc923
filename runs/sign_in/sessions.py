"""The sessions of a person: the device of each, its address and its last use.

The rows belong to `allauth.usersessions`. They are written here, because its own middleware writes on each request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from allauth.usersessions.models import UserSession
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.models import Session
from django.db import DatabaseError
from django.db.models.signals import post_delete
from django.dispatch import Signal
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.decorators import sync_and_async_middleware
from django.utils.translation import gettext as _

from runs.access.addresses import address_of

logger = logging.getLogger(__name__)

# A page that refreshes itself every few seconds must not cost a write each time.
SEEN_EVERY_S = 60.0
MOST_REMEMBERED = 10_000
# Stored if the address is unknown, for example behind a proxy that connects through a socket file.
NO_ADDRESS = "0.0.0.0"
# The first match counts, because user agents also name browsers that they are compatible with.
BROWSERS = (
    ("Edg", "Edge"), ("OPR/", "Opera"), ("SamsungBrowser", "Samsung Internet"), ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"), ("Safari/", "Safari"),
)  # fmt: skip
SYSTEMS = (
    ("Windows", "Windows"), ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("CrOS", "ChromeOS"),
    ("Mac OS X", "macOS"), ("Linux", "Linux"),
)  # fmt: skip

# user: the person who ended the session from the list; device: the browser of that session.
session_ended = Signal()

# When this process last stored each session, by the monotonic clock.
_written: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class OwnSession:
    """A session as its owner sees it. `address` is empty if it is unknown."""

    pk: int
    device: str
    address: str
    began_at: datetime
    seen_at: datetime
    is_current: bool


def connect() -> None:
    """Store logins, and remove sessions that have ended, for whatever reason."""
    user_logged_in.connect(_logged_in, dispatch_uid="session-of-a-login")
    post_delete.connect(_session_ended, sender=Session, dispatch_uid="session-ended")


def own_sessions(user: User, current_key: str | None) -> list[OwnSession]:
    """Return the current sessions of `user`: the current one first, then by last use."""
    held = [
        OwnSession(
            pk=each.pk,
            device=device_of(each.user_agent),
            address="" if each.ip == NO_ADDRESS else each.ip,
            began_at=each.created_at,
            seen_at=each.last_seen_at,
            is_current=each.session_key == current_key,
        )
        for each in UserSession.objects.purge_and_list(user)
    ]
    return sorted(held, key=lambda each: (each.is_current, each.seen_at), reverse=True)


def end_session(user: User, pk: int) -> bool:
    """End a session of `user` and its sockets; return whether there was one."""
    found = UserSession.objects.filter(user=user, pk=pk).first()
    if found is None:
        return False
    _end(found)
    return True


def end_other_sessions(user: User, current_key: str | None) -> int:
    """End all sessions of `user` except the current one; return how many."""
    others = list(UserSession.objects.filter(user=user).exclude(session_key=current_key or ""))
    for each in others:
        _end(each)
    return len(others)


def device_of(user_agent: str) -> str:
    """Return the name of a browser and its system, such as "Firefox, Linux"; else the start of the user agent."""
    browser = next((name for mark, name in BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in SYSTEMS if mark in user_agent), "")
    return ", ".join(filter(None, [browser, system])) or user_agent[:60] or _("unknown device")


def note_session(request: HttpRequest) -> None:
    """Store that the session of a request is in use, at most once a minute. Skipped if the database is unavailable."""
    key = request.session.session_key
    user = request.user
    if not key or not isinstance(user, User):
        return
    _remember(key)
    seen = {"ip": address_of(request) or NO_ADDRESS, "user_agent": _user_agent(request), "last_seen_at": timezone.now()}
    try:
        if not UserSession.objects.filter(session_key=key, user=user).update(**seen):
            UserSession.objects.update_or_create(session_key=key, defaults={**seen, "user": user})
    except DatabaseError as error:
        logger.debug("a session could not be recorded: %s", error)


@sync_and_async_middleware
def notes_sessions(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: records the use of sessions. A session that no view accessed costs nothing."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            response: HttpResponseBase = await get_response(request)
            if _is_due(request):
                await sync_to_async(note_session)(request)
            return response

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = get_response(request)
        if _is_due(request):
            note_session(request)
        return response

    return answer


def _end(session: UserSession) -> None:
    device = device_of(session.user_agent)
    session.end()
    session_ended.send(sender=UserSession, user=session.user, device=device)


def _is_due(request: HttpRequest) -> bool:
    # The view has loaded the user; if it did not need to, loading it now would cost a query.
    if not request.session.accessed or not hasattr(request, "_cached_user"):
        return False
    key = request.session.session_key
    return bool(key) and time.monotonic() - _written.get(str(key), -SEEN_EVERY_S) >= SEEN_EVERY_S


def _logged_in(sender: Any, request: HttpRequest | None, user: User, **kwargs: Any) -> None:
    if request is None or not hasattr(request, "session"):
        return
    if not request.session.session_key:
        request.session.save()
    request.user = user
    note_session(request)


def _session_ended(sender: Any, instance: Session, **kwargs: Any) -> None:
    _written.pop(instance.session_key, None)
    UserSession.objects.filter(session_key=instance.session_key).delete()


def _remember(key: str) -> None:
    if len(_written) >= MOST_REMEMBERED:
        _written.clear()
    _written[key] = time.monotonic()


def _user_agent(request: HttpRequest) -> str:
    longest = UserSession._meta.get_field("user_agent").max_length or 0
    return str(request.META.get("HTTP_USER_AGENT", ""))[:longest]
