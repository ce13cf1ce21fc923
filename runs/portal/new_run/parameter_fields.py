"""Form fields from what a recipe declares of its parameters: type, range, choices, default and help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext as _

from steersman.ranges import range_pattern

# Keeps a parameter called "name" or "seed" apart from the run's own fields.
PREFIX = "p-"

Entry = Mapping[str, Any]


def field_for(entry: Entry) -> forms.Field:
    """Return the form field of one entry of a recipe's schema (see `steersman.parameters`)."""
    default = entry.get("default")
    common: dict[str, Any] = {
        "label": entry["name"],
        "help_text": explanation(entry),
        "required": default is not None and entry["type"] not in ("bool", "str"),
        "initial": default,
    }
    if entry.get("choices"):
        choices = [(str(choice), str(choice)) for choice in entry["choices"]]
        return forms.ChoiceField(choices=choices, widget=forms.Select(attrs={"class": "form-select"}), **common)
    if entry["type"] == "bool":
        return forms.BooleanField(widget=forms.CheckboxInput(attrs={"class": "form-check-input"}), **common)
    if entry["type"] in ("int", "float"):
        kind = forms.IntegerField if entry["type"] == "int" else forms.FloatField
        widget = forms.NumberInput(attrs={"class": "form-control", "step": 1 if entry["type"] == "int" else "any"})
        return kind(min_value=entry.get("minimum"), max_value=entry.get("maximum"), widget=widget, **common)
    return forms.CharField(widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}), **common)


def explanation(entry: Entry) -> str:
    """Return the help of a parameter with what it takes and what it is by default."""
    return " · ".join(part for part in (_help(entry), _range(entry), _default(entry)) if part)


def _help(entry: Entry) -> str:
    """Return the help in the reader's language where it is that of a built-in recipe; "" has another meaning there."""
    text = str(entry.get("help") or "")
    return _(text) if text else ""


def _range(entry: Entry) -> str:
    minimum, maximum = entry.get("minimum"), entry.get("maximum")
    pattern = "" if entry.get("choices") else range_pattern(minimum, maximum)
    return _(pattern) % {"minimum": minimum, "maximum": maximum} if pattern else ""


def _default(entry: Entry) -> str:
    default = entry.get("default")
    if default is None or default == "":
        return ""
    if isinstance(default, bool):
        default = _("yes") if default else _("no")
    return _("default %(value)s") % {"value": default}


def given_values(form: forms.Form, schema: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the parameters of a cleaned form; an optional number left empty gets its default."""
    given = {}
    for entry in schema:
        value = form.cleaned_data.get(PREFIX + entry["name"])
        if value is not None:
            given[entry["name"]] = value
    return given
