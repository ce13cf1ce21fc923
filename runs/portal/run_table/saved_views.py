"""The saved views of the list: choosing, saving and deleting them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from runs.access.roles import COMMANDING_ROLES, membership_in, operators_only
from runs.curation.saved_views import BadView, kept_query, save_view
from runs.models import Membership, Project, SavedView

# The parameter with the shown view; `NONE` for none, so that the default view is not shown either.
SHOWN = "view"
NONE = "none"


@dataclass(frozen=True, slots=True)
class ViewLink:
    """A view in the menu. `may_delete` is whether the visitor may delete it."""

    view: SavedView
    query: str
    is_shown: bool
    may_delete: bool


def query_of(project_slug: str, query: str, number: int | str) -> str:
    """Return the query of the list that shows a view."""
    return "&".join(filter(None, [urlencode({"project": project_slug, SHOWN: number}), query]))


def offered_views(memberships: Sequence[Membership], chosen: Project | None, shown: str, query: str) -> dict[str, Any]:
    """Return the content of the menu of views: those of the chosen project, or of all projects of the visitor.

    `memberships` are the visitor's, `query` is that of the list that is shown.
    """
    rights = {each.project_id: each.role in COMMANDING_ROLES for each in memberships}
    projects = [chosen.pk] if chosen else list(rights)
    views = SavedView.objects.filter(project__in=projects).select_related("project").order_by("project__name", "name")
    links = [
        ViewLink(
            view,
            query_of(view.project.slug, view.query, view.pk),
            shown == str(view.pk) and kept_query(query) == view.query,
            rights.get(view.project_id, False),
        )
        for view in views
    ]
    return {
        "views": links,
        "shown_view": next((link.view for link in links if link.is_shown), None),
        "view_project": chosen if chosen and rights.get(chosen.pk) else None,
        "plain_query": query_of(chosen.slug, "", NONE) if chosen else "",
        "names_projects": chosen is None,
        "has_default": any(link.view.is_default for link in links),
        "view_query": kept_query(query),
    }


def _commanded(request: HttpRequest, slug: str) -> Membership:
    own = membership_in(request.user, slug)
    if own.role not in COMMANDING_ROLES:
        raise PermissionDenied(operators_only())
    return own


@login_required
@require_POST
def save(request: HttpRequest, slug: str) -> HttpResponse:
    """Save the view of `query` as `name`, with `default` as the project's default view; then show it."""
    own = _commanded(request, slug)
    assert isinstance(request.user, User)
    sent = request.POST
    try:
        view = save_view(
            own.project,
            sent.get("name", ""),
            sent.get("query", ""),
            is_default="default" in sent,
            user=request.user,
        )
    except BadView as error:
        messages.error(request, str(error))
        return redirect(f"{reverse('runs')}?{query_of(slug, kept_query(sent.get('query', '')), NONE)}")
    messages.success(request, _("The view “%(name)s” is saved for all members of the project.") % {"name": view.name})
    return redirect(f"{reverse('runs')}?{query_of(slug, view.query, view.pk)}")


@login_required
@require_POST
def delete(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Delete a view of a project; its runs stay."""
    own = _commanded(request, slug)
    view = get_object_or_404(own.project.saved_views, pk=pk)
    view.delete()
    messages.success(request, _("The view “%(name)s” is deleted. Its runs are kept.") % {"name": view.name})
    return redirect(f"{reverse('runs')}?{query_of(slug, '', NONE)}")
