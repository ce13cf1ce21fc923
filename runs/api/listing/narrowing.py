"""The runs that a request for the list finds: by a search, and by a saved view."""

from __future__ import annotations

from urllib.parse import parse_qs

from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from runs.access.roles import Caller
from runs.models import RunQuerySet, RunState, SavedView
from runs.selection.narrowing import narrow
from runs.selection.search import parse


class BadSearch(ValueError):
    """A part of a search cannot be used; the text is a sentence that says why."""


def searched(runs: RunQuerySet, text: str, user: User) -> RunQuerySet:
    """Return the runs that the search of the list of runs finds. Raises `BadSearch` if it cannot use a part of it.

    A page shows what is left of such a search, with a sentence. A script would take it for the answer.
    """
    found = narrow(runs, parse(text), user)
    if found.problems:
        raise BadSearch(found.problems[0])
    return found.runs


def find_view(pk: int, caller: Caller) -> SavedView | None:
    """Return a saved view of a project that the caller sees, None if there is none."""
    views = SavedView.objects.filter(pk=pk, project__memberships__user=caller.user)
    if caller.token is not None:
        views = views.filter(project_id=caller.token.project_id)
    return views.first()


def of_view(runs: RunQuerySet, view: SavedView, user: User) -> RunQuerySet:
    """Return the runs that a view shows: its project, archive, state and search. Raises `BadSearch`."""
    asked = parse_qs(view.query)
    found = runs.filter(project_id=view.project_id, archived_at__isnull="archived" not in asked)
    state = asked.get("state", [""])[0]
    if state in RunState.values:
        found = found.filter(state=state)
    try:
        return searched(found, asked.get("q", [""])[0], user)
    except BadSearch as error:
        text = _("The search of this view cannot be used: %(why)s")
        raise BadSearch(text % {"why": error}) from error
