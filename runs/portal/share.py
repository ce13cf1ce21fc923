"""Share links: one run for whoever has the link, without login, to look at. Names of members stay inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import F
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from runs.access.guest_view import replace_names
from runs.access.roles import SHARED, Viewer, commanded_run
from runs.access.tickets import TICKET_LIFETIME, issue_ticket
from runs.access.tokens import create_token, find_token
from runs.api.history import details, history
from runs.models import AccessToken, Run, RunQuerySet, TokenScope
from runs.portal.data import chart_ranges, place_as_json
from runs.portal.members import membership_of
from runs.portal.pages import RunView
from runs.portal.tokens import LifetimeForm, listed_tokens

GUEST = Viewer(user_id=None, name="", role=SHARED)

SharedView = Callable[[HttpRequest, AccessToken, Run], HttpResponseBase]


class SharedRunPage(RunView):
    """The page of a run as its share link shows it: the same for everybody, logged in or not."""

    template_name = "runs/shared.html"
    token: AccessToken

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        token = _shared(kwargs["token"])
        if token is None or token.run_id is None:
            response: HttpResponseBase = render(request, "runs/share_ended.html", status=404)
        else:
            request.user = AnonymousUser()
            self.token = token
            self.kwargs = {"pk": token.run_id}
            response = super().dispatch(request, *args, **kwargs)
        add_never_cache_headers(response)
        # The address is the key: it goes to no other site, no log and no index. Host and scheme alone may go, since
        # with "no-referrer" a browser would not say either where the form that chooses the language comes from.
        response["Referrer-Policy"] = "strict-origin"
        response["X-Robots-Tag"] = "noindex"
        return response

    def get_queryset(self) -> RunQuerySet:
        return Run.objects.filter(tokens=self.token).select_related("project", "recipe")

    def find_viewer(self) -> Viewer:
        return GUEST

    def addresses(self) -> dict[str, str]:
        # Relative to the page, whose address holds the key.
        return {name: f"{name}/" for name in ("history", "details", "series", "place", "tickets")}


def for_guests(view: SharedView) -> Callable[Concatenate[HttpRequest, ...], HttpResponseBase]:
    """Hand `view` the share token and its run; 404 in JSON where the link does not hold."""

    @never_cache
    @wraps(view)
    def guarded(request: HttpRequest, token: str) -> HttpResponseBase:
        found = _shared(token)
        if found is None or found.run is None:
            error = _("This link has expired or was revoked: ask for a new one.")
            return JsonResponse({"error": error, "field": "token"}, status=404)
        return view(request, found, found.run)

    return guarded


@require_GET
@for_guests
def shared_history(request: HttpRequest, token: AccessToken, run: Run) -> HttpResponse:
    """Return everything that the page shows, as of `seq`, with roles in place of names."""
    told = history(run, SHARED)
    replace_names([*told["commands"], *(event for event in told["events"] if event["kind"] == "command")])
    return JsonResponse(told)


@require_GET
@for_guests
def shared_details(request: HttpRequest, token: AccessToken, run: Run) -> HttpResponse:
    return JsonResponse(details(run, SHARED))


@require_GET
@for_guests
def shared_place(request: HttpRequest, token: AccessToken, run: Run) -> HttpResponse:
    """Return the place of a queued run in line; a guest learns of no other run than this one."""
    return place_as_json(run, Run.objects.none())


@require_GET
@for_guests
def shared_series(request: HttpRequest, token: AccessToken, run: Run) -> HttpResponse:
    return chart_ranges(request, run)


# The link in the address is the authority, not a cookie: there is nothing to forge.
@csrf_exempt
@require_POST
@for_guests
def shared_ticket(request: HttpRequest, token: AccessToken, run: Run) -> HttpResponse:
    """Return a ticket to the run's socket that holds as long as the link."""
    ticket = issue_ticket(token.created_by, run, token=token)
    return JsonResponse({"ticket": ticket, "expires_in_s": int(TICKET_LIFETIME.total_seconds())})


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def share_run(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the share links of a run; POST makes one, which is shown this once."""
    run = commanded_run(request.user, pk, _("Only operators and owners of the project share its runs."))
    form = LifetimeForm(request.POST if request.method == "POST" else None, initial={"days": "7"})
    link, status = "", 200
    if request.method == "POST":
        if form.is_valid():
            assert isinstance(request.user, User)
            value = create_token(
                request.user, run.project, TokenScope.SHARE, name=run.name, run=run, expires_at=form.expiry()
            )[1]
            link = request.build_absolute_uri(reverse("share", args=[value]))
        else:
            status = 422
    own = membership_of(request, run.project.slug)
    links = listed_tokens(own).filter(run=run, scope=TokenScope.SHARE, revoked_at=None)
    context = {
        "run": run,
        "project": run.project,
        "form": form,
        "link": link,
        "links": links.order_by(F("expires_at").asc(nulls_last=True)),
        "now": timezone.now(),
    }
    return render(request, "runs/share.html", context, status=status)


def _shared(value: str) -> AccessToken | None:
    return find_token(value, {TokenScope.SHARE})
