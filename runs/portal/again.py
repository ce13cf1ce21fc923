"""The page that runs a run again: its configuration and seed, with or without its interventions."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from runs.access.roles import commanded_run, viewer_of
from runs.branching.family import branch_of
from runs.branching.requests import Author, Start
from runs.models import LARGEST_ID, LONGEST_NAME, Run
from runs.replaying.again import AgainRequest, CannotRunAgain, remarks, run_again


class AgainForm(forms.Form):
    """What the new run is called, what it repeats, and of a branch: at which run it is opened."""

    name = forms.CharField(
        label=_("Name"),
        max_length=LONGEST_NAME,
        required=False,
        help_text=_("Leave empty to use the name of the run, followed by “again”."),
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )
    interventions = forms.BooleanField(
        label=_("With its interventions"),
        required=False,
        initial=True,
        help_text=_(
            "The new run starts paused, gets the applied commands for the same steps, and then resumes by itself."
        ),
        widget=forms.CheckboxInput(attrs={"class": "form-check-input"}),
    )
    source = forms.IntegerField(
        label=_("Branch from run"),
        min_value=1,
        max_value=LARGEST_ID,
        required=False,
        help_text=_("The number of a run that repeats the source of this branch. Leave empty for the source itself."),
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )

    # The id makes a form that is submitted twice create one run.
    id = forms.UUIDField(widget=forms.HiddenInput, required=False)

    def __init__(self, data: Any = None, *, old: Run) -> None:
        super().__init__(data, initial={"id": uuid4()})
        if branch_of(old) is None:
            del self.fields["source"]

    def refuse(self, error: CannotRunAgain) -> None:
        """Show why the run cannot be run again, at its field if there is one."""
        self.add_error(error.field if error.field in self.fields else None, str(error))


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def again(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the form with what cannot repeat, and create the run by POST."""
    old = commanded_run(request.user, pk)
    form = AgainForm(request.POST or None, old=old)
    if request.method == "POST" and form.is_valid():
        viewer = viewer_of(request.user, old)
        assert viewer is not None
        number = form.cleaned_data.get("source")
        asked = AgainRequest(
            name=form.cleaned_data["name"],
            with_interventions=form.cleaned_data["interventions"],
            start=Start.chosen(request.POST.get("start")),
            source=commanded_run(request.user, number) if number else None,
            id=form.cleaned_data["id"] or uuid4(),
        )
        try:
            run, _is_new = run_again(old, asked, Author(viewer.name, viewer.user_id))
            return redirect(run)
        except CannotRunAgain as error:
            form.refuse(error)
    context = {"run": old, "form": form, "remarks": remarks(old)}
    return render(request, "runs/again.html", context, status=422 if form.errors else 200)
