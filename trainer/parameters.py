"""Declared parameters of a recipe: one declaration gives type, default, range, choices and help.

Knows neither Django nor torch: the web form, `create_run` and the worker all validate with this module,
the first two from the published schema, the last from the class.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, cast

Value = int | float | bool | str
Declared = TypeVar("Declared", int, float, bool, str)

TRUE_WORDS = frozenset({"true", "yes", "on", "1"})
FALSE_WORDS = frozenset({"false", "no", "off", "0"})


class ParameterError(ValueError):
    """A value that a parameter does not take. `name` is the parameter; the text says what it takes."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter as declared. `minimum` and `maximum` belong to the range; empty `choices` leave it open."""

    name: str
    type: str
    default: Value
    minimum: int | float | None = None
    maximum: int | float | None = None
    choices: tuple[Value, ...] = ()
    help: str = ""

    def as_row(self) -> dict[str, Any]:
        """Return the entry of the published schema, JSON-ready."""
        return asdict(self) | {"choices": list(self.choices)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Parameter:
        """Return the parameter of an entry of the published schema."""
        return cls(**{**row, "choices": tuple(row.get("choices") or ())})

    def parse(self, value: object) -> Value:
        """Return `value` (typed, or text as on a command line) in the parameter's type.

        Raises `ParameterError` where it has another type or lies outside the range.
        """
        parsed = self._convert(value)
        if self.choices and parsed not in self.choices:
            raise self._error(value)
        if isinstance(parsed, (int, float)) and not isinstance(parsed, bool):
            if self.minimum is not None and parsed < self.minimum:
                raise self._error(value)
            if self.maximum is not None and parsed > self.maximum:
                raise self._error(value)
        return parsed

    @property
    def takes(self) -> str:
        """Return in words what the parameter takes, such as "a whole number from 1 to 100"."""
        if self.choices:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        kind = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}[self.type]
        if self.minimum is not None and self.maximum is not None:
            return f"{kind} from {self.minimum} to {self.maximum}"
        if self.minimum is not None:
            return f"{kind} of at least {self.minimum}"
        if self.maximum is not None:
            return f"{kind} of at most {self.maximum}"
        return kind

    def _convert(self, value: object) -> Value:
        text = value.strip() if isinstance(value, str) else None
        try:
            match self.type:
                case "str":
                    if isinstance(value, str):
                        return value
                case "bool":
                    if isinstance(value, bool):
                        return value
                    if text is not None and text.lower() in TRUE_WORDS | FALSE_WORDS:
                        return text.lower() in TRUE_WORDS
                case "int":
                    if text is not None:
                        return int(text)
                    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value):
                        return int(value)
                case "float":
                    number = float(cast(Any, value)) if not isinstance(value, bool) else math.nan
                    if math.isfinite(number):
                        return number
        except (TypeError, ValueError, OverflowError):
            # Falls through to the one sentence that says what is taken.
            pass
        raise self._error(value)

    def _error(self, value: object) -> ParameterError:
        shown = repr(value) if isinstance(value, str) else str(value)
        sentence = f"{self.name} takes {self.takes}, not {shown[:80]}; leave it out for the default, {self.default}."
        return ParameterError(self.name, sentence)


def parameter(
    default: Declared,
    *,
    minimum: int | float | None = None,
    maximum: int | float | None = None,
    choices: Sequence[Declared] = (),
    help: str = "",  # noqa: A002
) -> Declared:
    """Declare a parameter in the body of a recipe class: `epochs: int = parameter(20, minimum=1, help="…")`."""
    # The class collects this object and puts the default in its place, so a type checker may see the value.
    return cast(Declared, Declaration(default, minimum, maximum, tuple(choices), help))


@dataclass(frozen=True, slots=True)
class Declaration:
    """What `parameter()` leaves in a class body until the class is complete."""

    default: Value
    minimum: int | float | None
    maximum: int | float | None
    choices: tuple[Value, ...]
    help: str

    def named(self, name: str, annotation: object) -> Parameter:
        """Return the parameter under its name. Raises `TypeError` where the declaration contradicts itself."""
        type_name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
        if type_name not in ("int", "float", "bool", "str"):
            raise TypeError(f"parameter {name} must be annotated int, float, bool or str, not {type_name}")
        declared = Parameter(name, type_name, self.default, self.minimum, self.maximum, self.choices, self.help)
        try:
            default = declared.parse(self.default)
        except ParameterError as error:
            raise TypeError(f"the default of {name} is outside what it declares: {error}") from error
        return Parameter(name, type_name, default, self.minimum, self.maximum, self.choices, self.help)


def validate(schema: Sequence[Mapping[str, Any]], values: Mapping[str, object]) -> dict[str, Value]:
    """Return a value for every parameter of the published `schema`: the one given, else the default.

    Text is parsed as on a command line. Raises `ParameterError` for an unknown name or a value outside.
    """
    parameters = {row["name"]: Parameter.from_row(row) for row in schema}
    for name in values:
        if name not in parameters:
            raise ParameterError(name, _unknown(name, list(parameters)))
    return {name: each.parse(values[name]) if name in values else each.default for name, each in parameters.items()}


def _unknown(name: str, known: list[str]) -> str:
    if not known:
        return f"There is no parameter {name}: this recipe takes none."
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"There is no parameter {name}.{hint} Known are: {', '.join(known)}."
