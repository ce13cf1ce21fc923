"""The page *Your sessions*: lists a person's sessions, and ends them."""

from __future__ import annotations

from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from runs.sign_in.sessions import end_other_sessions, end_session, own_sessions


@login_required
@require_safe
def sessions(request: HttpRequest) -> HttpResponse:
    """List the sessions of the visitor."""
    assert isinstance(request.user, User)
    held = own_sessions(request.user, request.session.session_key)
    return render(request, "sign_in/sessions.html", {"sessions": held})


@login_required
@require_POST
def end_own_session(request: HttpRequest, pk: int) -> HttpResponse:
    """End one session of the visitor; the current one is ended as by *Log out*."""
    assert isinstance(request.user, User)
    held = {each.pk: each for each in own_sessions(request.user, request.session.session_key)}
    if pk not in held:
        raise Http404
    if held[pk].is_current:
        logout(request)
        return redirect("login")
    end_session(request.user, pk)
    return redirect("sessions")


@login_required
@require_POST
def end_others(request: HttpRequest) -> HttpResponse:
    """End every session of the visitor except this one."""
    assert isinstance(request.user, User)
    end_other_sessions(request.user, request.session.session_key)
    return redirect("sessions")
