"""Declared parameters of a recipe: one declaration gives type, default, range, choices and help.

Knows neither Django nor torch. What is declared here is published as a row and checked by `runs.parameters`,
by the web form, by `create_run` and by the worker alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from runs.parameters import ParameterError, validate
from steersman.knobs import KnobError, KnobSpec, Scale, kind_of

Value = int | float | bool | str
Declared = TypeVar("Declared", int, float, bool, str)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What `parameter()` leaves in a class body until the class is complete."""

    default: Value
    minimum: int | float | None
    maximum: int | float | None
    choices: tuple[Value, ...]
    help: str
    # A knob may be changed while the recipe trains; these tell how it is shown.
    knob: bool = False
    scale: Scale = "linear"
    unit: str = ""

    def named(self, name: str, annotation: object) -> dict[str, Any]:
        """Return the entry of the schema. Raises `TypeError` where the declaration contradicts itself."""
        type_name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
        if type_name not in ("int", "float", "bool", "str"):
            raise TypeError(f"parameter {name} must be annotated int, float, bool or str, not {type_name or 'nothing'}")
        entry = {
            "name": name,
            "type": type_name,
            "default": self.default,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "choices": list(self.choices),
            "help": self.help,
        }
        try:
            return entry | {"default": validate([entry], {name: self.default})[name]}
        except ParameterError as error:
            raise TypeError(f"the default of {name} is outside what it declares: {error}") from error

    def as_knob(self, name: str, default: Value, series: str = "") -> KnobSpec:
        """Return what the parameter takes as a knob, `default` in its type. Raises `TypeError` where it can be none."""
        try:
            return KnobSpec(
                name,
                kind_of(name, default, self.choices),
                self.minimum,
                self.maximum,
                self.choices,
                self.scale,
                self.unit,
                self.help,
                series=series,
            )
        except KnobError as error:
            raise TypeError(f"{name} cannot be a knob: {error}") from error


def parameter(
    default: Declared,
    *,
    minimum: int | float | None = None,
    maximum: int | float | None = None,
    choices: Sequence[Declared] = (),
    help: str = "",
    knob: bool = False,
    scale: Scale = "linear",
    unit: str = "",
) -> Declared:
    """Declare a parameter in the body of a recipe class: `epochs: int = parameter(20, minimum=1, help="…")`.

    With `knob` it may be changed while the recipe trains: a method `set_<name>(value)` of the recipe puts the change
    to work where there is one, and the attribute holds the new value. `scale` ("linear" or "log") and `unit` tell
    how it is shown.
    """
    # The class collects this object and puts the default in its place, so a type checker may see the value.
    return cast(Declared, Declaration(default, minimum, maximum, tuple(choices), help, knob, scale, unit))


def takes(entry: dict[str, Any]) -> str:
    """Return in words what a parameter of the schema takes, such as "1 to 100" or "one of red, green"."""
    minimum, maximum = entry.get("minimum"), entry.get("maximum")
    if entry.get("choices"):
        return "one of " + ", ".join(str(choice) for choice in entry["choices"])
    if minimum is not None and maximum is not None:
        return f"{minimum} to {maximum}"
    if minimum is not None:
        return f"at least {minimum}"
    if maximum is not None:
        return f"at most {maximum}"
    return "true or false" if entry["type"] == "bool" else "any"
