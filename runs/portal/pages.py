"""The login page and the pages of runs. People see only the runs of their projects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView, PasswordChangeView
from django.core.exceptions import DisallowedHost, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.request import split_domain_port
from django.middleware.csrf import REASON_BAD_ORIGIN
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import get_script_prefix, reverse
from django.utils.translation import gettext as _
from django.views.generic import DetailView

from runs.access.logins import CountedPasswordChangeForm, is_locked
from runs.access.roles import Viewer, viewer_of
from runs.branching.family import branch_of, family
from runs.commands.legal_states import legal_states
from runs.curation.about import LONGEST_DESCRIPTION, about_of
from runs.curation.tags import tags_of_projects
from runs.live.origin import parse_origin
from runs.markdown.rendering import rendered
from runs.models import (
    LONGEST_NAME,
    OPTIONAL,
    AlertState,
    Axis,
    CommandState,
    Role,
    Run,
    RunQuerySet,
    RunState,
    Severity,
)
from runs.portal.query_text import NulInQuery
from runs.portal.run_table.exporting import exports
from runs.protocol.commands import COMMANDS
from runs.recording.lifecycle import ENDED
from runs.recording.liveness import percent_of
from runs.recording.queue import command_from, remote_command, start_command
from runs.recording.queue_places import place_of
from runs.sign_in.directory_marks import has_failed
from runs.sign_in.passkeys import relying_party
from runs.sign_in.second_factor import log_in, note_password

LONGEST_HOST = 100
# The number of cards with newest values that the page's script shows.
MOST_CARDS = 6

# The states whose names the page shows.
STATES = (RunState, CommandState, AlertState, Severity)


class LogIn(LoginView):
    """Django's view, which refuses a locked account before it validates the form, for two queries and one page."""

    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | {
            "single_sign_on": settings.STEERSMAN_OIDC,
            "passkey_login": settings.STEERSMAN_PASSKEY_LOGIN,
            "rp_id": relying_party(self.request),
            "directory_failed": has_failed(self.request),
            "refused_passkey": self.request.GET.get("passkey") == "refused",
        }

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        note_password(self.request, form.get_user())
        if not settings.STEERSMAN_SECOND_FACTOR:
            return super().form_valid(form)
        return log_in(self.request, form.get_user(), self.get_success_url())

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if is_locked(request):
            return locked_out(request)
        response: HttpResponse = super().post(request, *args, **kwargs)
        return response


class LogOut(LogoutView):
    """Ends the session, and clears the browser's cache of runs, which holds histories for revalidation."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response: HttpResponse = super().post(request, *args, **kwargs)
        response.headers["Clear-Site-Data"] = '"cache"'
        return response


class ChangePassword(PasswordChangeView):
    """Changes the visitor's password; a wrong current password is counted."""

    form_class = CountedPasswordChangeForm

    def get_form_kwargs(self) -> dict[str, Any]:
        """Raise `PermissionDenied` if the password is in a directory: a local one would stay valid after the account
        there ends.
        """
        assert isinstance(self.request.user, User)
        if not self.request.user.has_usable_password():
            raise PermissionDenied(_("Your organisation manages your password. Change it there."))
        return {**super().get_form_kwargs(), "request": self.request}


def locked_out(request: HttpRequest, _response: HttpResponse | None = None, *_: Any) -> HttpResponse:
    """Answer a person who has entered too many wrong passwords, at the login and in the admin."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    response = render(request, "registration/locked_out.html", {"minutes": seconds // 60}, status=429)
    response.headers["Retry-After"] = str(seconds)
    return response


class RunView(DetailView[Run], ABC):
    """One run, live: the frame of the page, which scripts fill through the API and the socket."""

    template_name = "runs/run.html"

    @abstractmethod
    def find_viewer(self) -> Viewer | None:
        """Return the viewer, None if access is denied."""

    def visible_runs(self) -> RunQuerySet:
        """Return the other runs that the viewer may see."""
        return Run.objects.visible_to(self.request.user)

    def addresses(self) -> dict[str, str]:
        """Return the URLs that the page's scripts request, by name."""
        names = ("history", "details", "points", "place", "written")
        of_run = {name: reverse(f"api:{name}", args=[self.object.pk]) for name in names}
        of_run["history"] += "?form=columns"
        return of_run | {"tickets": reverse("api:tickets"), "socket": f"{get_script_prefix()}ws/runs/{self.object.pk}/"}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        run = self.object
        viewer = self.find_viewer()
        if viewer is None:
            raise Http404
        return super().get_context_data(**kwargs) | {
            "viewer": viewer,
            # Texts by members may contain internal words, so guests do not see them.
            **({} if viewer.is_guest else _written(run)),
            "longest": {"name": LONGEST_NAME, "description": LONGEST_DESCRIPTION},
            "exports": exports(),
            "may_delete": viewer.role == Role.OWNER,
            "known_tags": tags_of_projects([run.project_id]) if viewer.may_command else [],
            "percent": percent_of(run),
            # Space for these is reserved from the start, so that nothing moves when the page goes live.
            "tells_end": run.state in (RunState.FAILED, RunState.LOST),
            "cards": range(_cards_of(run)),
            "has_traceback": run.state == RunState.FAILED
            and viewer.may_command
            and run.attempts.filter(number=run.attempt).exclude(traceback="").exists(),
            "tells_alert": run.alerts.filter(state=AlertState.OPEN).exists(),
            "place": place_of(run, self.visible_runs(), names_host=not viewer.is_guest),
            "knobs_expected": bool(run.knobs) or (run.state not in ENDED and bool(run.recipe and run.recipe.knobs)),
            "patched": run.attempts.exclude(patch="").values_list("number", flat=True).last()
            if viewer.may_command
            else None,
            # Guests see only this run.
            "family": [] if viewer.is_guest else family(run, self.visible_runs()),
            "branch": None if viewer.is_guest else branch_of(run),
            "help": {kind: command.help for kind, command in COMMANDS.items()},
            "page": {
                "run": run.pk,
                "name": run.name,
                "project": run.project_id,
                "pins": run.project.pinned_charts,
                "may_pin": viewer.may_command,
                "start": start_command(run) if viewer.may_command else "",
                "remote": (remote_command(run) or "") if viewer.may_command else "",
                "elsewhere": command_from(run) if viewer.may_command else [],
                "states": {value: str(label) for choices in STATES for value, label in choices.choices},
                "commands": {
                    kind: {"legal_in": sorted(legal_states(command, run)), "is_optional": kind in OPTIONAL}
                    for kind, command in COMMANDS.items()
                },
                "addresses": self.addresses(),
            },
        }


def _cards_of(run: Run) -> int:
    """Return for how many cards with newest values the page keeps room; none if the run has no values yet."""
    series = run.series.filter(axis=Axis.STEP).count()
    return min(MOST_CARDS, series) or (MOST_CARDS if run.epoch else 0)


def _written(run: Run) -> dict[str, Any]:
    """Return what people wrote about a run, for its page."""
    about = about_of(run.pk)
    note = about.review.note if about.review else ""
    return {"about": about, "description": rendered(about.description), "review_note": rendered(note)}


class RunPage(LoginRequiredMixin, RunView):
    """The page of a run for members of its project."""

    def get_queryset(self) -> RunQuerySet:
        return Run.objects.visible_to(self.request.user).select_related(
            "project", "recipe", "created_by", "reviewed_by"
        )

    def find_viewer(self) -> Viewer | None:
        return viewer_of(self.request.user, self.object)

    def addresses(self) -> dict[str, str]:
        checkpoints = f"{self.object.get_absolute_url()}checkpoints/"
        alerts = reverse("api:alerts", args=[self.object.pk])
        marks = reverse("api:checkpoints", args=[self.object.pk])
        tags = reverse("api:tags", args=[self.object.pk])
        return super().addresses() | {
            "login": reverse("login"),
            "checkpoints": checkpoints,
            "alerts": alerts,
            "marks": marks,
            "tags": tags,
            "list": reverse("runs"),
            "pins": reverse("api:pins", args=[self.object.pk]),
            "about": reverse("api:about", args=[self.object.pk]),
            "several": reverse("api:several"),
        }


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a request with a missing or outdated CSRF token: a page for people, JSON for scripts."""
    if request.path_info.startswith("/api/"):
        error = _("The CSRF token is missing or has expired. Reload the page.")
        return JsonResponse({"error": error, "field": "X-CSRFToken"}, status=403)
    origin = request.META.get("HTTP_ORIGIN", "")
    # This is Django's reason if the form's origin is not ours, as behind a proxy that terminates TLS.
    is_foreign = reason == REASON_BAD_ORIGIN % origin and parse_origin(origin) is not None
    context = {"origin": origin if is_foreign else ""}
    return render(request, "403_csrf.html", context, status=403)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer requests that are malformed, or for a host that the portal does not serve."""
    host = split_domain_port(request.META.get("HTTP_HOST", "")[:LONGEST_HOST])[0]
    context = {
        "host": host if isinstance(exception, DisallowedHost) else "",
        "nul_in": str(exception) if isinstance(exception, NulInQuery) else None,
    }
    # Rendered without the request, because the template context would ask for the host.
    return HttpResponse(render_to_string("400.html", context), status=400)
