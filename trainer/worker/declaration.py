"""How a recipe declares its parameters in the body of its class. Imports neither torch nor the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from steersman.kinds import KINDS, SpecError, Value
from steersman.knobs import plain_choices
from steersman.spec import Scale, ValueSpec, kind_annotated, kind_of
from steersman.values import plain

Declared = TypeVar("Declared", int, float, bool, str)


@dataclass(frozen=True, slots=True)
class Declaration:
    """The result of `parameter()` in a class body, until the class is complete."""

    default: Value
    minimum: int | float | None
    maximum: int | float | None
    # Unchecked, because the types are checked when the name is known.
    choices: object
    help: str
    # A knob may be changed while the recipe trains; these fields determine how it is shown.
    knob: bool
    scale: Scale
    unit: str
    # Empty if the annotation determines it.
    kind: str

    def named(self, name: str, annotation: object, series: str = "") -> ValueSpec:
        """Return the spec of the parameter. Raises `TypeError` if the declaration contradicts itself."""
        try:
            kind, choices = self.kind, plain_choices(name, self.choices)
            if not kind:
                kind, choices = self._annotated(name, annotation, choices)
            spec = ValueSpec(
                name,
                kind,
                plain(self.minimum),
                plain(self.maximum),
                choices,
                self.scale,
                self.unit,
                self.help,
                series=series,
                default=self.default,
            )
            spec.check(self.default)  # a default of None, because a spec treats None as missing
        except SpecError as error:
            raise TypeError(str(error)) from error
        return spec

    def _annotated(self, name: str, annotation: object, choices: tuple[Value, ...]) -> tuple[str, tuple[Value, ...]]:
        """Return the kind of an annotated parameter, and its choices in the annotated type."""
        type_name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
        annotated = kind_annotated(type_name)
        if not annotated:
            known = ", ".join(kind.python_type.__name__ for kind in KINDS.values() if kind.python_type is not None)
            raise TypeError(f"parameter {name}: annotate it with one of {known}, not {type_name or 'nothing'}")
        if not choices:
            return annotated, ()
        of_one = ValueSpec(name, annotated)
        return kind_of(name, self.default, choices), tuple(of_one.check(choice) for choice in choices)


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
    kind: str = "",
) -> Declared:
    """Declare a parameter in the body of a recipe class: `epochs: int = parameter(20, minimum=1, help="…")`.

    With `knob` it may be changed while the recipe trains: a method `set_<name>(value)` of the recipe applies the
    change if there is one, and the attribute holds the new value. `scale` ("linear" or "log") and `unit` define
    how it is shown. `kind` names a kind of `steersman.kinds` that is not that of its annotation.
    """
    # The class collects this object and replaces it by the default, so a type checker may see the value.
    declaration = Declaration(plain(default), minimum, maximum, choices, help, knob, scale, unit, kind)
    return cast(Declared, declaration)
