"""The declaration of a parameter or a knob, against which every value is checked.

A recipe's parameters, knobs of any training, forms, API and command line share one `ValueSpec`, so they accept the same
values and refuse others with the same message. Its kinds are in `steersman.kinds`. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from steersman.kinds import KINDS, AnyValue, Kind, SpecError, Value
from steersman.marked_text import MarkedText, gettext_noop
from steersman.values import as_text, plain, shown

Scale = Literal["linear", "log"]
LARGEST_NAME_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class ValueSpec:
    """The values that a parameter or a knob accepts. Raises `SpecError` if it contradicts itself.

    `series` names the series that shows the effective value if a schedule multiplies it. A parameter without `default`
    is required.
    """

    name: str
    kind: str
    minimum: float | int | None = None
    maximum: float | int | None = None
    choices: tuple[Value, ...] = ()
    scale: Scale = "linear"
    unit: str = ""
    help: str = ""
    # Names of the parameter groups with their own values; empty if there is one value.
    groups: tuple[str, ...] = ()
    series: str = ""
    default: Value | None = None

    def __post_init__(self) -> None:
        if not _is_text(self.name) or len(self.name) > LARGEST_NAME_CHARACTERS:
            raise SpecError(f"a parameter or knob needs a name of at most {LARGEST_NAME_CHARACTERS} characters")
        if not _is_text(self.kind) or self.kind not in KINDS:
            raise SpecError(
                f"{self.name}: its kind must be one of {', '.join(KINDS)}, not {shown(self.kind)}", self.name
            )
        if self.scale not in ("linear", "log"):
            raise SpecError(f"{self.name}: the scale must be linear or log, not {shown(self.scale)}", self.name)
        if not all(_is_text(group) for group in self.groups):
            raise SpecError(f"{self.name}: the names of parameter groups must be text", self.name)
        self.of_kind.check_declaration(self)
        if self.default is not None:
            # Converted to the kind's type: 1 becomes 1.0, a NumPy value a Python one.
            object.__setattr__(self, "default", self.check(self.default))

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> ValueSpec:
        """Return the spec in the fields of a parameter or knob on the wire; other fields are ignored.

        An unknown kind becomes the kind of any value: the training checks it.
        """
        known = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
        for name in ("choices", "groups"):
            known[name] = tuple(known.get(name) or ())
        if str(known.get("kind")) not in KINDS:
            known = {name: known[name] for name in ("name", "unit", "help", "groups", "series", "default")
                     if name in known} | {"kind": AnyValue.name}  # fmt: skip
        return cls(**known)

    def to_wire(self) -> dict[str, Any]:
        """Return JSON-ready fields, including the control of a page that shows the spec."""
        kind = self.of_kind
        lists = {"choices": list(self.choices), "groups": list(self.groups)}
        return asdict(self) | lists | {"input": kind.input, "step": kind.step}

    @property
    def of_kind(self) -> Kind:
        return KINDS[self.kind]

    def with_room_for(self, values: Iterable[float]) -> ValueSpec:
        """Return a spec that also accepts these values: initial values of a training may be outside of the limits."""
        given = list(values)
        minimum = min(given) if self.minimum is None else min(self.minimum, *given)
        maximum = None if self.maximum is None else max(self.maximum, *given)
        scale = self.scale if minimum > 0 else "linear"
        choices = tuple(dict.fromkeys([*self.choices, *given])) if self.choices else ()
        least = None if self.minimum is None else minimum
        return replace(self, minimum=least, maximum=maximum, choices=choices, scale=scale)

    def check(self, value: object) -> Value:
        """Return a value in the type of the spec's kind. Raises `SpecError` if the spec does not accept it."""
        return self.of_kind.check(self, plain(value))

    def parse(self, text: str) -> Value:
        """Return the value of a typed text. Raises `SpecError` if the spec does not accept it."""
        return self.of_kind.parse(self, text)

    def take(self, given: object) -> Value:
        """Return a value that was given directly or as text, since JSON may contain either. Raises `SpecError`."""
        return self.parse(str.__str__(given)) if isinstance(given, str) else self.check(given)

    def takes(self) -> MarkedText:
        """Return a description of the spec's values: "a whole number from 1 to 100"."""
        return self.of_kind.takes(self)

    def hint(self) -> MarkedText:
        """Return the limits in a short form, "1 to 100"; empty if there are none."""
        return self.of_kind.hint(self)

    def text(self, value: Value) -> str:
        """Return a value as a person would type it."""
        return self.of_kind.text(value)

    @property
    def default_text(self) -> str:
        return "" if self.default is None else self.text(self.default)

    def check_group(self, group: str) -> tuple[str, ...]:
        """Return the groups that a change of `group` affects: that one, or all if it is empty."""
        if not group:
            return self.groups or ("",)
        if group not in self.groups:
            known = (
                f"use one of {', '.join(self.groups)}, or leave the group out to change all"
                if self.groups
                else "leave the group out"
            )
            raise SpecError(f"{self.name} has no parameter group {shown(group)}: {known}.", self.name)
        return (group,)


def kind_of(name: str, default: object, choices: Sequence[Value] = ()) -> str:
    """Return the name of the kind that follows from a default. Raises `SpecError` if none does."""
    for kind in KINDS.values():
        if kind.has_choices if choices else kind.python_type is not None and _has_type(default, kind.python_type):
            return kind.name
    spec = as_text(name, LARGEST_NAME_CHARACTERS)
    raise SpecError(f"{spec}: the default must be an int, float, bool or str, not {shown(default)}", spec)


def kind_annotated(annotation: str) -> str:
    """Return the name of the kind for an annotation, such as "int"; "" if there is none."""
    for kind in KINDS.values():
        if kind.python_type is not None and kind.python_type.__name__ == annotation:
            return kind.name
    return ""


def specs_from_wire(rows: Iterable[Mapping[str, Any]]) -> dict[str, ValueSpec]:
    """Return the specs of published parameters, or of a run's knobs, by name.

    An invalid row becomes a spec of any value, which the training checks; a row without a name is left out.
    """
    return {spec.name: spec for spec in map(_stored, rows) if spec is not None}


def _stored(row: Mapping[str, Any]) -> ValueSpec | None:
    try:
        return ValueSpec.from_wire(row)
    except (SpecError, TypeError, AttributeError):
        pass
    try:
        return ValueSpec(row["name"], AnyValue.name)
    except (SpecError, TypeError, LookupError):
        return None


def typed_values(specs: Mapping[str, ValueSpec], given: Mapping[str, object]) -> dict[str, Value]:
    """Return the value of every parameter, in the order of `specs`: the given value or text, else its default.

    Raises `SpecError` for an unknown name, a value that the spec does not accept, or a missing value.
    """
    for name in given:
        if name not in specs:
            places = {"name": name, "known": ", ".join(specs)}
            pattern = gettext_noop("%(name)s: there is no such parameter; choose one of: %(known)s.")
            if not specs:
                pattern = gettext_noop("%(name)s: there is no such parameter; the recipe has none.")
            raise SpecError(MarkedText(pattern, places), str(name))
    return {name: _value(spec, given) for name, spec in specs.items()}


def _value(spec: ValueSpec, given: Mapping[str, object]) -> Value:
    if spec.name in given:
        return spec.take(given[spec.name])
    if spec.default is None:
        raise SpecError(
            MarkedText(gettext_noop("%(name)s has no default: give a value."), {"name": spec.name}), spec.name
        )
    return spec.default


def _is_text(given: object) -> bool:
    """Return whether a script passed a text that is not empty, as annotations are not enforced."""
    return isinstance(given, str) and bool(given)


def _has_type(default: object, python_type: type) -> bool:
    """Return whether a default has a type. In Python True is an int, but not here."""
    return isinstance(default, python_type) and isinstance(default, bool) == (python_type is bool)
