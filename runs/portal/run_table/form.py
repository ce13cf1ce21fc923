"""The filters of the run list."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.utils.translation import gettext_lazy as _

from runs.models import Project, RunQuerySet, RunState
from runs.selection.narrowing import Narrowed, narrow
from runs.selection.search import LONGEST_SEARCH, Search, parse


class RunFilter(forms.Form):
    """Filters of the list of runs: search text, state, project and archive. Invalid values are ignored."""

    q = forms.CharField(
        required=False,
        max_length=LONGEST_SEARCH,
        label=_("Search"),
        widget=forms.SearchInput(
            attrs={
                "class": "form-control",
                "placeholder": _("Search: a name, #id, loss < 0.1, author = me"),
                "autocomplete": "off",
                "spellcheck": "false",
            }
        ),
    )
    state = forms.ChoiceField(
        required=False,
        label=_("State"),
        choices=[("", _("All states")), *RunState.choices],
        widget=forms.Select(attrs={"class": "form-select"}),
    )
    project = forms.ModelChoiceField(
        required=False,
        label=_("Project"),
        queryset=Project.objects.none(),
        to_field_name="slug",
        empty_label=_("All projects"),
        widget=forms.Select(attrs={"class": "form-select"}),
    )

    archived = forms.BooleanField(
        required=False,
        label=_("Archived"),
        widget=forms.CheckboxInput(attrs={"class": "form-check-input"}),
    )

    def __init__(self, *args: Any, user: AbstractBaseUser | AnonymousUser, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._user = user
        projects = self.fields["project"]
        assert isinstance(projects, forms.ModelChoiceField)
        projects.queryset = Project.objects.filter(memberships__user_id=user.pk or 0)

    @property
    def search(self) -> Search:
        """Return the words and comparisons of the search text."""
        self.is_valid()
        return parse(self.cleaned_data.get("q") or "")

    def narrow(self, runs: RunQuerySet) -> Narrowed:
        """Return those of `runs` that match the valid choices, and the parts of the search that were not understood."""
        self.is_valid()
        chosen = self.cleaned_data
        runs = runs.filter(archived_at__isnull=not chosen.get("archived"))
        if chosen.get("state"):
            runs = runs.filter(state=chosen["state"])
        if chosen.get("project"):
            runs = runs.filter(project=chosen["project"])
        return narrow(runs, self.search, self._user)

    @property
    def shows_archive(self) -> bool:
        """Whether the archived runs are requested instead of the others."""
        self.is_valid()
        return bool(self.cleaned_data.get("archived"))

    @property
    def chosen_project(self) -> Project | None:
        """Return the chosen project."""
        self.is_valid()
        return self.cleaned_data.get("project")

    @property
    def has_projects(self) -> bool:
        """Whether the user belongs to a project that can be chosen."""
        projects = self.fields["project"]
        assert isinstance(projects, forms.ModelChoiceField) and projects.queryset is not None
        return projects.queryset.exists()

    @property
    def is_narrowed(self) -> bool:
        """Whether something narrows the list, other than the project and the choice of archived runs."""
        return any(self.cleaned_data.get(name) for name in self.fields if name not in ("project", "archived"))

    @property
    def is_used(self) -> bool:
        return any(self.cleaned_data.get(name) for name in self.fields)
