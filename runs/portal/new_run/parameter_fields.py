"""Form fields from what a recipe declares of its parameters: kind, range, choices, default and help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from steersman.kinds import SpecError, Value
from steersman.spec import ValueSpec

# Keeps a parameter called "name" or "seed" apart from the run's own fields.
PREFIX = "p-"


class Checkbox(forms.CheckboxInput):
    """A checkbox whose value may come as a text such as yes or off, from a script that posts the form."""

    def __init__(self, spec: ValueSpec) -> None:
        super().__init__(attrs={"class": "form-check-input"}, check_test=self._is_checked)
        self._spec = spec

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        # A browser leaves out a checkbox that is not checked.
        return data.get(name, "false")

    def format_value(self, value: Any) -> str:
        # What a browser sends for a checkbox that is checked, whatever it was when the page was made.
        return "true"

    def _is_checked(self, value: object) -> bool:
        try:
            return self._spec.take(value) is True
        except SpecError:
            return False


def _number(spec: ValueSpec) -> forms.Widget:
    limits = {"min": spec.minimum, "max": spec.maximum, "step": spec.of_kind.step or "any"}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    return forms.NumberInput(attrs={"class": "form-control", **given})


def _select(spec: ValueSpec) -> forms.Widget:
    texts = [spec.text(choice) for choice in spec.choices]
    return forms.Select(attrs={"class": "form-select"}, choices=[(text, text) for text in texts])


def _text(spec: ValueSpec) -> forms.Widget:
    return forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"})


# By the control that a kind asks for; one that is not here gets a text field.
WIDGETS: dict[str, Callable[[ValueSpec], forms.Widget]] = {"checkbox": Checkbox, "number": _number, "select": _select}


class SpecField(forms.Field):
    """A field that takes what its spec takes, and refuses other values in the spec's sentence."""

    def __init__(self, spec: ValueSpec) -> None:
        self.spec = spec
        super().__init__(
            label=spec.name,
            help_text=explanation(spec),
            # The spec decides whether it may be empty.
            required=False,
            initial=spec.default,
            widget=WIDGETS.get(spec.of_kind.input, _text)(spec),
        )

    def prepare_value(self, value: Any) -> Any:
        """Return what the control shows: a value in the spec's text, whatever was typed as it was."""
        return value if value is None or isinstance(value, str) else self.spec.text(value)

    def clean(self, value: Any) -> Value:
        try:
            return self.spec.parse(str(value or ""))
        except SpecError as error:
            raise ValidationError(error.said.translated(_)) from error


def explanation(spec: ValueSpec) -> str:
    """Return the help of a parameter with what it takes and what it is by default."""
    # A built-in recipe's help is in the catalogue; gettext("") is its head.
    help_text = _(spec.help) if spec.help else ""
    return " · ".join(part for part in (help_text, spec.hint().translated(_), _default(spec)) if part)


def _default(spec: ValueSpec) -> str:
    if spec.default is None or spec.default == "":
        return ""
    value = spec.default_text
    if isinstance(spec.default, bool):
        value = _("yes") if spec.default else _("no")
    return _("default %(value)s") % {"value": value}
