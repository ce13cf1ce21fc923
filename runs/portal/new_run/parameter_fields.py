"""Form fields from a recipe's declarations of its parameters: kind, range, choices, default and help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from steersman.kinds import SpecError, Value
from steersman.spec import ValueSpec

# Separates a parameter called "name" or "seed" from the run's own fields.
PREFIX = "p-"


class Checkbox(forms.CheckboxInput):
    """A checkbox that also accepts texts such as yes or off, from a script that posts the form."""

    def __init__(self, spec: ValueSpec) -> None:
        super().__init__(attrs={"class": "form-check-input"}, check_test=self._is_checked)
        self._spec = spec

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        # A browser does not send a checkbox that is not checked.
        return data.get(name, "false")

    def format_value(self, value: Any) -> str:
        # A browser sends this for a checked checkbox, whatever its initial value.
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


# By the control that a kind requests; other kinds get a text field.
WIDGETS: dict[str, Callable[[ValueSpec], forms.Widget]] = {"checkbox": Checkbox, "number": _number, "select": _select}


class SpecField(forms.Field):
    """A field that validates values by its spec, and shows the spec's message."""

    def __init__(self, spec: ValueSpec) -> None:
        self.spec = spec
        super().__init__(
            label=spec.name,
            help_text=explanation(spec),
            # The spec decides whether the value may be empty.
            required=False,
            initial=spec.default,
            widget=WIDGETS.get(spec.of_kind.input, _text)(spec),
        )

    def prepare_value(self, value: Any) -> Any:
        """Return the text of the control: a value as the spec writes it, typed text unchanged."""
        return value if value is None or isinstance(value, str) else self.spec.text(value)

    def clean(self, value: Any) -> Value:
        try:
            return self.spec.parse(str(value or ""))
        except SpecError as error:
            raise ValidationError(error.said.translated(_)) from error


def explanation(spec: ValueSpec) -> str:
    """Return the help of a parameter, with its range and its default."""
    # The help of a built-in recipe is translated; gettext("") would return the catalogue's header.
    help_text = _(spec.help) if spec.help else ""
    return " · ".join(part for part in (help_text, spec.hint().translated(_), _default(spec)) if part)


def _default(spec: ValueSpec) -> str:
    if spec.default is None or spec.default == "":
        return ""
    value = spec.default_text
    if isinstance(spec.default, bool):
        value = _("yes") if spec.default else _("no")
    return _("default %(value)s") % {"value": value}
