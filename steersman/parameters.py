"""Declared parameters of a recipe: how a recipe declares them, and how a run's values are checked against them.

A declaration is published as an entry of a schema: `{"name", "type", "default", "minimum", "maximum", "choices",
"help"}`, of which `name` and `type` ("int", "float", "bool" or "str") are required. An entry without `default` must be
given. Web form, command line and worker check values against it alike.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from steersman.knobs import KnobError, KnobSpec, Scale, Value, kind_of
from steersman.ranges import range_in_words

YES = frozenset({"true", "yes", "on", "1"})
NO = frozenset({"false", "no", "off", "0"})
Declared = TypeVar("Declared", int, float, bool, str)


class ParameterError(ValueError):
    """A parameter that cannot be used. `name` is what is wrong; the text says what to give instead."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name
        self.sentence = sentence


def validate(schema: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return every declared parameter with its value, typed, in the order of the schema.

    Text is parsed by the declared type; a parameter left out gets its default. Raises `ParameterError`
    for an unknown name, a value of another type, out of range or not among the choices.
    """
    known = [entry["name"] for entry in schema]
    for name in values:
        if name not in known:
            listed = ", ".join(known) if known else "none"
            raise ParameterError(str(name), f"{name}: there is no such parameter; known ones: {listed}.")
    return {entry["name"]: _value_of(entry, values) for entry in schema}


def _value_of(entry: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    name = entry["name"]
    if name not in values:
        if "default" not in entry:
            raise ParameterError(name, f"{name}: has no default; give a value.")
        return entry["default"]
    if values[name] is None and "default" in entry and entry["default"] is None:
        return None
    value = _parse(entry, values[name])
    choices = entry.get("choices")
    if choices and value not in choices:
        raise ParameterError(
            name, f"{name}: {reprlib.repr(value)} is no choice; use one of {', '.join(map(str, choices))}."
        )
    _check_range(entry, value)
    return value


def _check_range(entry: Mapping[str, Any], value: Any) -> None:
    name, minimum, maximum = entry["name"], entry.get("minimum"), entry.get("maximum")
    too_small = minimum is not None and value < minimum
    too_large = maximum is not None and value > maximum
    if not too_small and not too_large:
        return
    size, allowed = "small" if too_small else "large", range_in_words(minimum, maximum)
    raise ParameterError(name, f"{name}: {reprlib.repr(value)} is too {size}; give {allowed}.")


def _parse(entry: Mapping[str, Any], value: Any) -> Any:
    kind = entry["type"]
    if kind not in PARSERS:
        raise ParameterError(entry["name"], f"{entry['name']}: the recipe declares an unknown type {kind!r}.")
    expected, parse = PARSERS[kind]
    try:
        return parse(value)
    except (ValueError, TypeError, OverflowError):
        raise ParameterError(entry["name"], f"{entry['name']}: {reprlib.repr(value)} is not {expected}.") from None


def _parse_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    if isinstance(value, str):
        return int(value)
    if value != int(value):
        raise ValueError
    return int(value)


def _parse_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _parse_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in YES:
        return True
    if isinstance(value, str) and value.strip().lower() in NO:
        return False
    raise ValueError


def _parse_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


PARSERS = {
    "int": ("a whole number", _parse_int),
    "float": ("a finite number", _parse_float),
    "bool": ("true or false", _parse_bool),
    "str": ("text", _parse_str),
}


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


def takes(entry: Mapping[str, Any]) -> str:
    """Return in words what a parameter of the schema takes, such as "1 to 100" or "one of red, green"."""
    if entry.get("choices"):
        return "one of " + ", ".join(map(str, entry["choices"]))
    allowed = range_in_words(entry.get("minimum"), entry.get("maximum"))
    return allowed or ("true or false" if entry["type"] == "bool" else "any")
