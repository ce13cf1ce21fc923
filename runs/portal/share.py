"""Share links: anyone with the link sees one run without a login. Names of members are not shown."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import F
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from runs.access.addresses import address_of
from runs.access.guesses import TooManyGuesses, lookups
from runs.access.roles import SHARED, Viewer, commanded_run
from runs.access.tokens import create_token
from runs.models import AccessToken, Run, RunQuerySet, TokenScope
from runs.portal.members import membership_of
from runs.portal.pages import RunView
from runs.portal.tokens import LifetimeForm, listed_tokens

GUEST = Viewer(user_id=None, name="", role=SHARED)


class SharedRunPage(RunView):
    """The page of a run through its share link, the same for everybody, logged in or not."""

    template_name = "runs/shared.html"
    token: AccessToken

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            token = lookups.find(kwargs["token"], {TokenScope.SHARE}, address_of(request) or "")
            status = 404
        except TooManyGuesses:
            token, status = None, 429
        if token is None or token.run_id is None:
            response: HttpResponseBase = render(request, "runs/share_ended.html", status=status)
        else:
            request.user = AnonymousUser()
            self.token = token
            self.kwargs = {"pk": token.run_id}
            response = super().dispatch(request, *args, **kwargs)
        # The address contains the key, so it must reach no other site, no log and no index. Host and scheme may be
        # sent: with "no-referrer", a browser would also omit the origin of the form that chooses the language.
        response["Referrer-Policy"] = "strict-origin"
        response["X-Robots-Tag"] = "noindex"
        return response

    def get_queryset(self) -> RunQuerySet:
        return Run.objects.filter(tokens=self.token).select_related("project", "recipe")

    def find_viewer(self) -> Viewer:
        return GUEST

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        # The scripts read the key from the address of the page, and send it in a header.
        context["page"]["shared"] = True
        return context


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def share_run(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the share links of a run; POST creates one, which is shown only this once."""
    run = commanded_run(request.user, pk)
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
