"""Saved views: search, order and columns of the list of runs, stored under a name for all members of the project."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from runs.models import LONGEST_VIEW_NAME, LONGEST_VIEW_QUERY, Project, SavedView

MOST_VIEWS = 50
# The parts of the list's query that a view keeps: neither the project nor the page.
KEPT = ("q", "state", "archived", "sort", "group", "column")


class BadView(ValueError):
    """The view cannot be saved; the text is a sentence that says what to do, `field` names the field with the error."""

    def __init__(self, text: str, field: str) -> None:
        super().__init__(text)
        self.field = field


def kept_query(query: str) -> str:
    """Return the parts of a list's query that a view stores, in their order."""
    return urlencode([(name, value) for name, value in parse_qsl(query) if name in KEPT])


def save_view(project: Project, name: str, query: str, *, is_default: bool, user: User) -> SavedView:
    """Save a view under a name, replacing a view with that name. Raises `BadView`."""
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_VIEW_NAME or not name.isprintable():
        raise BadView(_("Give the view a name of 1 to %(most)d characters.") % {"most": LONGEST_VIEW_NAME}, "name")
    kept = kept_query(query)
    if len(kept) > LONGEST_VIEW_QUERY:
        raise BadView(_("This view is too long to be saved. Use fewer columns or search terms."), "query")
    with transaction.atomic():
        # Concurrent saves are serialised, because a project has at most one default view.
        Project.objects.select_for_update().get(pk=project.pk)
        view = project.saved_views.filter(name=name).first()
        if view is None:
            if project.saved_views.count() >= MOST_VIEWS:
                text = _("A project has at most %(most)d saved views. Delete one first.")
                raise BadView(text % {"most": MOST_VIEWS}, "name")
            view = SavedView(project=project, name=name)
        if is_default:
            for other in project.saved_views.filter(is_default=True).exclude(pk=view.pk):
                other.is_default = False
                other.save()
        view.query, view.is_default, view.changed_by = kept, is_default, user
        view.save()
    return view


def default_view(project_slug: str, user_id: int) -> SavedView | None:
    """Return the default view of a project that the user belongs to, None if there is none."""
    views = SavedView.objects.filter(project__slug=project_slug, project__memberships__user_id=user_id)
    return views.filter(is_default=True).first()
