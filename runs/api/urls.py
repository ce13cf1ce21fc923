"""The JSON API under /api/, and its pages: openapi.json, and docs/, which loads nothing from other sites."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, re_path
from django.views.generic import RedirectView
from ninja import NinjaAPI
from ninja.openapi.docs import Swagger

from runs.api import alerts, commands, copies, page, runs, series, steering, tickets
from runs.api.answers import Api
from runs.api.callers import BearerToken, BrowserSession
from runs.api.errors import answer_errors_of, no_such_address


class Docs(Swagger):
    """The page with the list of operations. The library's page would need an installed app that every process loads."""

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        return render(request, "api/docs.html", {"page": {"openapi": self.get_openapi_url(api, kwargs)}})


api = Api(
    title="Steersman",
    version="1",
    description="Runs, their epochs, series, commands, knobs and checkpoints. Send `Authorization: Bearer stm_…`.",
    urls_namespace="api",
    docs=Docs(),
    docs_url="/docs/",
    auth=[BearerToken(), BrowserSession()],
)
answer_errors_of(api)
for router in (
    runs.router, page.router, series.router, commands.router, alerts.router, steering.router, copies.router,
):  # fmt: skip
    api.add_router("/runs", router)
api.add_router("/projects", runs.views)
api.add_router("/tickets", tickets.router)
api.add_router("/queue", steering.queue)
api.add_router("/agents", steering.agents)

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="api:openapi-view")),
    path("", api.urls),
    re_path(r"^.*$", no_such_address),
]
