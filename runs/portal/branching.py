"""The page that opens a branch: a form for a new run that begins at a checkpoint, with its changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib.auth.decorators import login_required
from django.forms import BoundField
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from runs.access.roles import commanded_run, viewer_of
from runs.branching.changes import knob_specs_of
from runs.branching.opening import open_branch
from runs.branching.origin import manifest_of
from runs.branching.requests import Author, BranchRequest, CannotBranch, Start
from runs.models import LARGEST_ID, LONGEST_NAME, Checkpoint, Run
from runs.portal.new_run.parameter_fields import PREFIX, SpecField, explanation
from runs.protocol.commands import LARGEST_REASON_CHARACTERS
from steersman.kinds import Value
from steersman.spec import ValueSpec

KNOB_PREFIX = "k-"


class KnobField(SpecField):
    """A knob, or its value for one parameter group. If it is empty, the value at the checkpoint is kept."""

    def __init__(self, spec: ValueSpec, group: str, saved: Value | None) -> None:
        super().__init__(replace(spec, default=saved))
        self.group = group
        # The control shows the value at the checkpoint instead of the default.
        self.help_text = explanation(replace(spec, default=None))
        if saved is None and isinstance(self.widget, forms.Select):
            self.widget.choices = [("", gettext("as at the checkpoint")), *self.widget.choices]
        if group:
            self.label = f"{spec.name} ({group})"

    def clean(self, value: Any) -> Any:
        """Return the value, None to keep the value at the checkpoint. Raises `ValidationError`."""
        is_left = value in ("", None) and not isinstance(self.spec.default, str)
        return None if is_left else super().clean(value)


class BranchForm(forms.Form):
    """A branch of `source`: its parameters have fields called `p-<name>`, its knobs `k-<number>`.

    A parameter that is also a knob appears as a knob, with its value at the checkpoint.
    """

    name = forms.CharField(
        label=_("Name"),
        max_length=LONGEST_NAME,
        required=False,
        help_text=_("Leave empty to use the name of the run, followed by the step."),
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )
    reason = forms.CharField(
        label=_("Reason"),
        max_length=LARGEST_REASON_CHARACTERS,
        required=False,
        help_text=_("Shown in the command logs of both runs."),
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )
    # The id makes a form that is submitted twice open one branch.
    id = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, source: Run, saved: dict[str, dict[str, Any]]) -> None:
        super().__init__(data, initial={"id": uuid4()})
        self.source = source
        knobs = knob_specs_of(source)
        declared = source.recipe.parameter_specs if source.recipe else {}
        self._parameters = {PREFIX + name: spec for name, spec in declared.items() if name not in knobs}
        for field, spec in self._parameters.items():
            self.fields[field] = SpecField(replace(spec, default=source.parameters.get(spec.name, spec.default)))
            self.fields[field].help_text = explanation(spec)
        self._knobs = dict(_knob_fields(knobs, saved))
        self.fields |= self._knobs

    @property
    def parameter_fields(self) -> list[BoundField]:
        return [self[name] for name in self._parameters]

    @property
    def knob_fields(self) -> list[BoundField]:
        return [self[name] for name in self._knobs]

    def request(self, checkpoint: Checkpoint, start: Start) -> BranchRequest:
        """Return the request of a valid form."""
        given = self.cleaned_data
        knobs: dict[str, Any] = {}
        for name, field in self._knobs.items():
            # A value that equals the shown one is not a change.
            if given[name] is not None and given[name] != field.spec.default:
                knobs.setdefault(field.spec.name, {})[field.group] = given[name]
        return BranchRequest(
            checkpoint=str(checkpoint.pk),
            name=given["name"],
            parameters={spec.name: given[field] for field, spec in self._parameters.items()},
            knobs=knobs,
            start=start,
            reason=given["reason"],
            id=given["id"],
        )

    def refuse(self, error: CannotBranch) -> None:
        """Show why the branch cannot be opened, at the field with the error if there is one."""
        part, _dot, name = error.field.partition(".")
        fields = {"parameters": PREFIX + name, "knobs": self._field_of_knob(name)}
        field = fields.get(part, part)
        self.add_error(field if field in self.fields else None, str(error))

    def _field_of_knob(self, knob: str) -> str:
        return next((name for name, field in self._knobs.items() if field.spec.name == knob), "")


def _knob_fields(specs: dict[str, ValueSpec], saved: dict[str, dict[str, Any]]) -> Iterator[tuple[str, KnobField]]:
    """Yield the fields by name. They are numbered, because the names of knobs and groups may be any text."""
    number = 0
    for spec in specs.values():
        for group in spec.groups or ("",):
            value = saved.get(spec.name, {}).get(group)
            number += 1
            # A checkbox cannot show an unknown value.
            if value is not None or spec.of_kind.input != "checkbox":
                yield f"{KNOB_PREFIX}{number}", KnobField(spec, group, value)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def branch(request: HttpRequest, pk: int, checkpoint_id: int) -> HttpResponse:
    """Show the form, and open the branch by POST; 409 if the checkpoint cannot be used."""
    run = commanded_run(request.user, pk)
    checkpoint = run.checkpoints.filter(pk=checkpoint_id).first() if checkpoint_id <= LARGEST_ID else None
    if checkpoint is None:
        text = gettext("The run no longer has this checkpoint. Newer ones have replaced it.")
        return _refuse(request, run, 404, text)
    try:
        manifest = manifest_of(checkpoint)
    except CannotBranch as error:
        return _refuse(request, run, 409, str(error))
    form = BranchForm(request.POST or None, source=run, saved=manifest.knobs)
    if request.method == "POST" and form.is_valid():
        viewer = viewer_of(request.user, run)
        assert viewer is not None
        start = Start.chosen(request.POST.get("start"))
        try:
            opened, _is_new = open_branch(run, form.request(checkpoint, start), Author(viewer.name, viewer.user_id))
        except CannotBranch as error:
            form.refuse(error)
        else:
            return redirect(opened)
    context = {"run": run, "checkpoint": checkpoint, "form": form}
    return render(request, "runs/branch.html", context, status=422 if form.errors else 200)


def _refuse(request: HttpRequest, run: Run, status: int, sentence: str) -> HttpResponse:
    context = {"run": run, "sentence": sentence, "status": status}
    return render(request, "runs/checkpoint_refused.html", context, status=status)
