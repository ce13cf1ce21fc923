"""The forms that create and review a run, and fields that choose a row by typing."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib.admin.options import BaseModelAdmin
from django.core.exceptions import ValidationError
from django.db.models import ForeignKey, Model
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from runs.models import Run
from steersman.kinds import SpecError
from steersman.slots import DEVICE_NAME
from steersman.spec import typed_values


class NewRunForm(forms.ModelForm[Run]):
    """A new run. Its parameters are validated against the published recipe."""

    class Meta:
        model = Run
        fields = ("project", "name", "recipe", "parameters", "device", "seed", "deterministic")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["parameters"].help_text = _(
            'An object of names and values, such as {"epochs": 20}. Parameters that are left out keep their defaults.'
        )

    def clean_device(self) -> str:
        device: str = self.cleaned_data["device"]
        if not DEVICE_NAME.fullmatch(device):
            raise ValidationError(_("Give auto, cpu, cuda, or a specific GPU such as cuda:1."))
        return device

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "parameters" not in cleaned or "recipe" not in cleaned:
            return cleaned
        given = cleaned["parameters"] or {}
        if not isinstance(given, dict):
            self.add_error("parameters", _('Give an object of names and values, such as {"epochs": 20}.'))
            return cleaned
        try:
            recipe = cleaned["recipe"]
            cleaned["parameters"] = typed_values(recipe.parameter_specs, given) if recipe else given
            json.dumps(cleaned["parameters"], allow_nan=False)
        except SpecError as error:
            self.add_error("parameters", error.said.translated(gettext))
        except ValueError:
            self.add_error("parameters", _("NaN and infinities cannot be parameters: give finite numbers."))
        return cleaned


class ReviewForm(forms.ModelForm[Run]):
    """The editable fields of a recorded run: its name and the review."""

    class Meta:
        model = Run
        fields = ("name", "review_note", "reviewed_by", "reviewed_at")
        help_texts = {
            "reviewed_by": _("If left empty, the person who saves the note is the reviewer."),
            "reviewed_at": _("If left empty, the time of saving is used."),
        }


class RowField(forms.ModelChoiceField[Model]):
    """Shows an empty field if the value is not a number.

    Django's widget looks up each value when it renders a form with errors, and raises `ValueError`.
    """

    def bound_data(self, data: Any, initial: Any) -> Any:
        return data if str(data or "").isdecimal() else None


class ChoosesRows(BaseModelAdmin[Any]):
    """The shared base of admin classes with `autocomplete_fields`."""

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> forms.ModelChoiceField[Any] | None:
        if db_field.name in self.autocomplete_fields:
            kwargs.setdefault("form_class", RowField)
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if field and db_field.name in self.autocomplete_fields:
            # The element that replaces the field takes its title, and has no other name for screen readers.
            field.widget.attrs.setdefault("title", field.label)
        return field
