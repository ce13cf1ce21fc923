"""Why the list is empty, and what its reader can do about it."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser

from runs.models import Project, Run
from runs.portal.run_table.form import RunFilter
from runs.queueing.board import commanded_projects


@dataclass(frozen=True, slots=True)
class Emptiness:
    """`kind` is "no-project", "no-run", "archived" (all runs are), "none-archived" or "unmatched".

    `may_create` is true if the reader may create runs in `project`, or without a chosen project in any of theirs.
    """

    kind: str
    project: Project | None
    may_create: bool


def emptiness_of(form: RunFilter, user: AbstractBaseUser | AnonymousUser) -> Emptiness:
    """Return why no run matches the form."""
    project = form.chosen_project
    commanded = commanded_projects(user)
    may_create = bool(commanded) if project is None else project.pk in commanded
    return Emptiness(_kind(form, user), project, may_create)


def _kind(form: RunFilter, user: AbstractBaseUser | AnonymousUser) -> str:
    if not form.has_projects:
        return "no-project"
    runs = Run.objects.visible_to(user)
    if form.chosen_project is not None:
        runs = runs.filter(project=form.chosen_project)
    if not runs.exists():
        return "no-run"
    if form.is_narrowed:
        return "unmatched"
    return "none-archived" if form.shows_archive else "archived"
